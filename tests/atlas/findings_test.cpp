#include <gtest/gtest.h>

#include "cajal/atlas/measure.h"
#include "cajal/atlas/planted_neurons.h"
#include "cajal/atlas/report.h"
#include "cajal/atlas/token_features.h"

namespace cajal::atlas {
namespace {

class OnPlanted : public testing::Test {
 protected:
  static PlantedNeurons& planted() {
    static auto p = plant_neurons(
        {.layers = 2, .neurons = 512, .vocabulary = 1024, .context = 128, .tokens = 30'000});
    return p;
  }
  static const Census& census() {
    static const auto c = measure(planted().model, planted().text, {.tables = true, .orders = 2});
    return c;
  }
  static const Findings& findings() {
    static const auto f = [] {
      const Reading reading{.name = "planted", .ids = planted().text, .tokenizer = {}};
      DescribeOptions options;
      options.ablation_tokens = 100;
      return describe(census(), planted().model, &reading, options);
    }();
    return f;
  }
  // Share of the neurons of a kind for which `found` holds.
  template <class Found>
  static double share(PlantedKind kind, Found&& found) {
    double all = 0, right = 0;
    for (int64_t l = 0; l < std::ssize(planted().kind); ++l)
      for (int64_t i = 0; i < std::ssize(planted().kind[l]); ++i)
        if (planted().kind[l][i] == kind) ++all, right += found(l, i);
    return right / all;
  }
};

TEST_F(OnPlanted, DeadNeuronsAreDead) {
  const auto dead = [](int64_t l, int64_t i) { return census().layers[l].dead(i); };
  EXPECT_EQ(share(PlantedKind::dead, dead), 1);
  EXPECT_EQ(share(PlantedKind::background, dead), 0);
}

TEST_F(OnPlanted, EveryKindIsRecovered) {
  const auto kinds = recover(planted(), census());
  ASSERT_EQ(kinds.size(), 6u);
  int64_t planted_all = 0, found_all = 0;
  for (const auto& k : kinds) planted_all += k.planted, found_all += k.found;
  EXPECT_EQ(planted_all, 1024);
  EXPECT_EQ(found_all, 1024);
  const auto& dead = kinds[static_cast<size_t>(PlantedKind::dead)];
  EXPECT_EQ(dead.both, dead.planted);
  EXPECT_EQ(dead.precision(), 1);
  EXPECT_GE(kinds[static_cast<size_t>(PlantedKind::bigram)].recall(), 0.95);
}

TEST_F(OnPlanted, DetectorsAreFound) {
  const auto order = [](int64_t l, int64_t i) {
    const auto& t = findings().neurons[l][i].triggers;
    return t.pure ? t.order : 0;
  };
  EXPECT_GE(share(PlantedKind::token, [&](auto l, auto i) { return order(l, i) == 1; }), 0.95);
  EXPECT_GE(share(PlantedKind::bigram, [&](auto l, auto i) { return order(l, i) == 2; }), 0.95);
  EXPECT_EQ(share(PlantedKind::background, [&](auto l, auto i) { return order(l, i) != 0; }), 0);
}

TEST_F(OnPlanted, PositionalNeuronsAreFound) {
  const auto kind = [](int64_t l, int64_t i) { return findings().neurons[l][i].position; };
  const auto is = [&](PositionKind k) {
    return [&, k](int64_t l, int64_t i) { return kind(l, i) == k; };
  };
  EXPECT_GE(share(PlantedKind::range, is(PositionKind::range)), 0.95);
  EXPECT_GE(share(PlantedKind::oscillatory, is(PositionKind::oscillatory)), 0.95);
  EXPECT_EQ(share(PlantedKind::background, is(PositionKind::none)), 1);
}

TEST_F(OnPlanted, DetectorsLowerTheirTriggersMoreThanThoseOfOthers) {
  for (const auto& layer : findings().layers) {
    EXPECT_GT(layer.suppressed, 0.95);
    EXPECT_LT(layer.shuffled, 0.7);
  }
}

TEST_F(OnPlanted, LabelsNameWhatWasPlanted) {
  for (int64_t i = 0; i < 512; ++i) {
    if (planted().kind[0][i] != PlantedKind::dead) continue;
    EXPECT_EQ(labels(census(), findings(), 0, i).at(0), "dead");
    return;
  }
}

TEST_F(OnPlanted, DescribingAnotherModelIsRefused) {
  auto other = plant_neurons(
      {.layers = 2, .neurons = 512, .vocabulary = 1024, .context = 128, .tokens = 100, .seed = 1});
  EXPECT_THROW(describe(census(), other.model, nullptr), Error);
}

TEST_F(OnPlanted, ATokenDetectorIsExplainedByItsToken) {
  const auto why = explain(planted().model, planted().text, {}, 128);
  int64_t at = 0;
  for (int64_t i = 0; i < 512; ++i, ++at) {
    if (planted().kind[0][i] != PlantedKind::token) continue;
    if (findings().neurons[0][i].triggers.keys.size() == 1) {
      EXPECT_GT(why[at].reduction, 0.9) << i;
    }
  }
}

TEST(TokenFeatures, SayWhatATokenIs) {
  const auto features = token_features({" the", "1984", "HE", " his", "!", "running"});
  const auto holds = [&](std::string_view name) {
    for (const auto& feature : features)
      if (feature.name == name) return feature.holds;
    return std::vector<uint8_t>();
  };
  EXPECT_EQ(holds("begins with a space"), (std::vector<uint8_t>{1, 0, 0, 1, 0, 0}));
  EXPECT_EQ(holds("year"), (std::vector<uint8_t>{0, 1, 0, 0, 0, 0}));
  EXPECT_EQ(holds("all capitals"), (std::vector<uint8_t>{0, 0, 1, 0, 0, 0}));
  EXPECT_EQ(holds("third person"), (std::vector<uint8_t>{0, 0, 1, 1, 0, 0}));
  EXPECT_EQ(holds("article"), (std::vector<uint8_t>{1, 0, 0, 0, 0, 0}));
  EXPECT_EQ(holds("ends in ing"), (std::vector<uint8_t>{0, 0, 0, 0, 0, 1}));
  EXPECT_GT(features.size(), 90u);
}

}  // namespace
}  // namespace cajal::atlas
