#include <gtest/gtest.h>

#include "cajal/atlas/dissection.h"
#include "cajal/atlas/unit_edits.h"
#include "cajal/core/error.h"

namespace cajal::atlas {
namespace {

torch::Tensor counts(const std::function<double(const Meaning&, int64_t kind)>& count) {
  auto out = torch::zeros({1, data::kWorldPixelKinds}, torch::kDouble);
  for (int64_t k = 0; k < data::kWorldPixelKinds; ++k) out[0][k] = count({}, k);
  return out;
}

/// Pixels of a meaning, `share` of which others replace.
torch::Tensor pixels_of(const Meaning& meaning, double others) {
  return 100 * meaning_table({meaning}).to(torch::kDouble) +
         others * torch::ones({1, data::kWorldPixelKinds}, torch::kDouble);
}

TEST(FindMeanings, FindsThePlantedCombination) {
  const auto outside = counts(
      [](const Meaning&, int64_t kind) { return kind >= 3 * data::kWorldKinds ? 5000.0 : 10.0; });
  for (const auto& planted : std::initializer_list<Meaning>{{.shape = 0},
                                                            {.shape = 1, .colour = 2},
                                                            {.colour = 4, .texture = 1},
                                                            {.shape = 4, .edge = true},
                                                            {.background = 1}})
    EXPECT_EQ(find_meanings(pixels_of(planted, 0.1), outside)[0].meaning, planted)
        << phrase_of(planted);
}

TEST(FindMeanings, AUnitWithoutAPixelIsDead) {
  const auto none = torch::zeros({1, data::kWorldPixelKinds}, torch::kDouble);
  EXPECT_TRUE(find_meanings(none, none + 1)[0].dead);
}

TEST(Phrases, SayTheirAttributesInOrder) {
  EXPECT_EQ(phrase_of({.shape = 0, .colour = 0, .texture = 1, .edge = true}),
            "edges of striped red circles");
  EXPECT_EQ(phrase_of({.colour = 3}), "yellow things");
  EXPECT_EQ(phrase_of({.background = 0}), "dark background");
}

TEST(Phrases, AreReadBackWhateverTheSynonym) {
  Random random(1);
  for (const auto& meaning : all_meanings())
    for (const auto& phrase : annotate(meaning, {.synonym = 0.5, .dropped = 0, .wrong = 0}, random))
      EXPECT_EQ(read_phrase(phrase), attributes_of(meaning)) << phrase;
}

TEST(Annotators, DropAndMistakeAsOftenAsTheyShould) {
  Random random(2);
  int dropped = 0, wrong = 0, all = 0;
  const Meaning meaning{.shape = 1, .colour = 2, .texture = 1};
  for (int i = 0; i < 2000; ++i)
    for (const auto& phrase : annotate(meaning, {}, random)) {
      const auto said = read_phrase(phrase);
      dropped += 3 - static_cast<int>(said.size()), all += 3;
      for (const int a : said) wrong += !attributes_of(meaning).contains(a);
    }
  EXPECT_NEAR(static_cast<double>(dropped) / all, 0.1, 0.01);
  EXPECT_NEAR(static_cast<double>(wrong) / all, 0.045, 0.01);
}

TEST(AttributeF1, CountsWhatBothSay) {
  EXPECT_EQ(attribute_f1({1, 6}, {1, 7, 12}), 2.0 / 5);
  EXPECT_EQ(attribute_f1({}, {}), 1);
  EXPECT_EQ(attribute_f1({}, {1}), 0);
}

TEST(Dissection, NamesThePlantedConceptAndFormula) {
  const auto all = torch::full({data::kWorldPixelKinds}, 100.0, torch::kDouble);
  const auto red = pixels_of({.colour = 0}, 0),
             red_circle = pixels_of({.shape = 0, .colour = 0}, 0);
  EXPECT_EQ(dissect(red, all)[0].attributes, Attributes({kColours}));
  EXPECT_NEAR(dissect(red, all)[0].iou, 1, 1e-12);
  const auto formula = explain_by_formulas(red_circle, all)[0];
  EXPECT_EQ(formula.attributes, Attributes({kShapes, kColours}));
  EXPECT_NEAR(formula.iou, 1, 1e-12);
}

TEST(Dissection, LeavesUnitsUnnamedThatLookAtNothing) {
  const auto all = torch::full({data::kWorldPixelKinds}, 1000.0, torch::kDouble);
  const auto few = torch::ones({1, data::kWorldPixelKinds}, torch::kDouble);
  EXPECT_TRUE(dissect(few, all)[0].attributes.empty());
}

TEST(CountKinds, CountsPixelsUnderTheMask) {
  const auto kinds = torch::tensor({3, 3, 7, 8}, torch::kShort).view({1, 1, 2, 2});
  const auto mask = torch::tensor({1, 1, 1, 0}, torch::kLong).to(torch::kBool).view({1, 1, 2, 2});
  const auto count = count_kinds(mask, kinds);
  EXPECT_EQ(count[0][3].item<double>(), 2);
  EXPECT_EQ(count[0][7].item<double>(), 1);
  EXPECT_EQ(count.sum().item<double>(), 3);
}

TEST(WorldNets, DeletedUnitsGiveZeroOrTheirMean) {
  const auto data = world_tensors(data::shape_world(8, 1));
  const auto net = train_world_net(WorldTask::first, data, {.steps = 1, .batch = 8}, 3);
  EXPECT_EQ(net.units(), 112);
  const auto x = data.pictures.slice(0, 0, 2);
  const auto maps = net.run(x, {.units = {0, 20}}).second;
  EXPECT_EQ(maps[0].select(1, 0).abs().max().item<float>(), 0);
  EXPECT_EQ(maps[1].select(1, 4).abs().max().item<float>(), 0);
  const auto mean = net.run(x, {{100}, DeletionRule::mean, torch::arange(112, torch::kFloat)});
  EXPECT_EQ(mean.second[2].select(1, 52).min().item<float>(), 100);
  EXPECT_TRUE(torch::equal(net.run(x, {}).first, net.run(x, {}).first));
  EXPECT_THROW(net.run(x, {.units = {112}}), Error);
  EXPECT_THROW(net.run(x, {{1}, DeletionRule::mean, {}}), Error);
}

TEST(UnitEdits, FindWordsInAnyNumber) {
  EXPECT_TRUE(mentions("edges of glyph", {"letter", "glyphs"}));
  EXPECT_FALSE(mentions("red squares", {"letter"}));
}

TEST(UnitEdits, GroupPhrasesByWhatTheySay) {
  const auto groups = phrase_groups({"red circles", "edges of striped red letters", "things"});
  const auto rows = [&](const std::string& name) {
    for (const auto& group : groups)
      if (group.name == name) return group.rows;
    return std::vector<int64_t>{-1};
  };
  EXPECT_EQ(rows("a colour"), std::vector<int64_t>({0, 1}));
  EXPECT_EQ(rows("letters"), std::vector<int64_t>({1}));
  EXPECT_EQ(rows("two adjectives"), std::vector<int64_t>({1}));
  EXPECT_EQ(rows("no adjective"), std::vector<int64_t>({2}));
  EXPECT_EQ(rows("a preposition"), std::vector<int64_t>({1}));
}

TEST(UnitEdits, DeleteOnlyUnitsThatThePhrasesName) {
  const auto data = world_tensors(data::shape_world(30, 1, {.most = 1, .shapes = 4}));
  const auto net = train_world_net(WorldTask::first, data, {.steps = 2, .batch = 8}, 3);
  const auto encoder = train_world_net(WorldTask::all, data, {.steps = 1, .batch = 8}, 4);
  const auto units = probe(net, encoder, data, {.exemplars = {.top = 3}}, 1);
  std::vector<std::string> phrases(static_cast<size_t>(units.size()), "things");
  phrases[2] = phrases[4] = "letters";
  Random random(1);
  for (const auto rule : {DeletionRule::zero, DeletionRule::mean}) {
    const auto edit = edit_by_phrases(net, WorldTask::first, units, phrases, {"letter"}, data, data,
                                      data, data, {.most = 5, .trials = 2, .rule = rule}, random);
    EXPECT_EQ(edit.candidates, 2);
    ASSERT_EQ(edit.curves.size(), 3u);
    EXPECT_EQ(edit.curves[0].adversarial.size(), 3u);
    EXPECT_EQ(edit.curves[0].adversarial[0], world_accuracy(net, WorldTask::first, data));
    EXPECT_LE(edit.chosen, 2);
  }
  EXPECT_THROW(edit_by_phrases(net, WorldTask::first, units, {}, {"letter"}, data, data, data, data,
                               {}, random),
               Error);
}

TEST(WorldNets, ATransformerHasItsNeuronsAsUnits) {
  const auto data = world_tensors(data::shape_world(4, 1));
  const auto net = train_world_net(WorldTask::vit, data, {.steps = 1, .batch = 4}, 3);
  const auto maps = net.run(data.pictures, {.units = {70}}).second;
  ASSERT_EQ(maps.size(), 3u);
  EXPECT_EQ(maps[1].sizes(), torch::IntArrayRef({4, 64, 8, 8}));
  EXPECT_EQ(maps[1].select(1, 6).abs().max().item<float>(), 0);
}

}  // namespace
}  // namespace cajal::atlas
