#include "cajal/surgery/bricks.h"

#include <gtest/gtest.h>

#include "cajal/core/error.h"
#include "cajal/models/lm/checkpoint.h"
#include "cajal/surgery/brick_configuration.h"
#include "cajal/surgery/brick_merge.h"
#include "cajal/surgery/brick_parts.h"
#include "cajal/surgery/brick_training.h"
#include "cajal/surgery/edit.h"
#include "checks.h"
#include "core/scratch.h"

namespace {

using cajal::testing::message;

using namespace cajal;
using namespace cajal::surgery;

lm::Transformer model_of(const std::string& type, uint64_t seed = 1) {
  const Json opt = {
      {"model_type", "opt"},           {"hidden_size", 16},          {"ffn_dim", 24},
      {"num_hidden_layers", 2},        {"num_attention_heads", 2},   {"vocab_size", 40},
      {"max_position_embeddings", 16}, {"tie_word_embeddings", true}};
  const Json llama = {{"model_type", "llama"},         {"hidden_size", 16},
                      {"intermediate_size", 24},       {"num_hidden_layers", 2},
                      {"num_attention_heads", 2},      {"vocab_size", 40},
                      {"max_position_embeddings", 16}, {"tie_word_embeddings", true}};
  const Json gpt2 = {{"model_type", "gpt2"}, {"n_embd", 16}, {"n_layer", 2},
                     {"n_inner", 24},        {"n_head", 2},  {"vocab_size", 40},
                     {"n_positions", 16}};
  auto model = lm::initialise(lm::config_from_json(type == "opt"     ? opt
                                                   : type == "llama" ? llama
                                                                     : gpt2,
                                                   "test"),
                              seed, 0.3);
  model->eval();
  return model;
}

torch::Tensor logits(lm::Transformer model) {
  const torch::NoGradGuard no_grad;
  return model->forward(torch::arange(24, torch::kLong).view({2, 12}));
}

double difference(const torch::Tensor& a, const torch::Tensor& b) {
  return (a - b).abs().max().item<double>();
}

Brick brick(const std::string& id, BrickKind kind, int64_t layer = 0, std::string module = "") {
  return {.card = {.id = id, .kind = kind, .layer = layer, .module = std::move(module)},
          .tensors = {}};
}

Brick low_rank(const std::string& id, const std::string& module, int64_t inputs, int64_t outputs,
               int64_t layer = 1) {
  auto out = brick(id, BrickKind::low_rank, layer, module);
  out.tensors["left"] = torch::randn({inputs, 2}),
  out.tensors["right"] = torch::randn({outputs, 2});
  return out;
}

class BrickFile : public Scratch {};

TEST_F(BrickFile, ARegistrySurvivesItsFileWithItsVersions) {
  BrickRegistry registry;
  auto first = low_rank("task/1", "ffn.value", 24, 16);
  first.card.tags = {{"code", 0.5}};
  registry.add(first);
  auto second = first;
  second.tensors["left"] = first.tensors["left"] * 2;
  registry.update(second);
  auto neurons = brick("some", BrickKind::neurons);
  neurons.tensors["index"] = torch::tensor({3, 5}, torch::kLong);
  registry.add(neurons);
  registry.save(in("bricks.safetensors"));
  auto again = BrickRegistry::load(in("bricks.safetensors"));
  ASSERT_EQ(again.bricks().size(), 2u);
  EXPECT_EQ(again.versions("task/1"), 2);
  EXPECT_EQ(again.at("task/1").card.tags[0].function, "code");
  EXPECT_TRUE(again.at("task/1").tensors.at("left").equal(second.tensors["left"]));
  again.revert("task/1");
  EXPECT_TRUE(again.at("task/1").tensors.at("left").equal(first.tensors["left"]));
  EXPECT_THROW(again.revert("task/1"), Error);
}

TEST_F(BrickFile, RefusesWhatSaveWouldNotHaveWritten) {
  const auto refused = [&](const std::string& cards, const NamedTensors& tensors) {
    const auto path = in("bad.safetensors");
    save_tensors(path, tensors, {{"bricks", cards}});
    return message([&] { BrickRegistry::load(path); });
  };
  const NamedTensors one{{"a.index", torch::tensor({1}, torch::kLong)}};
  EXPECT_NE(refused("{}", one), "no error");
  EXPECT_NE(refused("[]", one).find("belongs to no brick"), std::string::npos);
  EXPECT_NE(refused(R"([{"id":"a","kind":"neurons","layer":0,"as":"a","tensors":["other"]}])", one)
                .find("'a.other' is missing"),
            std::string::npos);
  EXPECT_NE(refused(R"([{"id":"a","kind":"soul","layer":0,"as":"a","tensors":["index"]}])", one)
                .find("soul"),
            std::string::npos);
  EXPECT_NE(
      refused(R"([{"id":"a","kind":"neurons","layer":0,"as":"a@0","tensors":["index"]}])", one),
      "no error");
  EXPECT_NE(refused("[[[", one), "no error");
  EXPECT_NE(message([&] { BrickRegistry::load(in("absent.safetensors")); }), "no error");
}

TEST(Bricks, IdsAreUniqueAndWrittenPlainly) {
  BrickRegistry registry;
  registry.add(brick("a", BrickKind::layer));
  EXPECT_THROW(registry.add(brick("a", BrickKind::layer)), Error);
  EXPECT_THROW(registry.add(brick("", BrickKind::layer)), Error);
  EXPECT_THROW(registry.add(brick("a.b", BrickKind::layer)), Error);
  EXPECT_THROW(registry.at("b"), Error);
}

TEST(Bricks, ChecksTellWhatDoesNotFit) {
  const auto model = model_of("opt");
  const auto hash = content_hash(model);
  const auto refused = [&](const Brick& one) { return message([&] { check(one, model, hash); }); };
  auto index = brick("n", BrickKind::neurons);
  index.tensors["index"] = torch::tensor({24}, torch::kLong);
  EXPECT_NE(refused(index).find("expected 0 to 23"), std::string::npos);
  index.tensors["index"] = torch::tensor({4, 4}, torch::kLong);
  EXPECT_NE(refused(index).find("twice"), std::string::npos);
  index.tensors["index"] = torch::tensor({4, 5}, torch::kLong);
  EXPECT_EQ(refused(index), "no error");
  index.card.layer = 2;
  EXPECT_NE(refused(index).find("layer 2"), std::string::npos);
  EXPECT_NE(refused(low_rank("l", "ffn.gate", 16, 24)).find("ffn.gate"), std::string::npos);
  EXPECT_NE(refused(low_rank("l", "ffn.key", 24, 16)).find("expected [16, -1]"), std::string::npos);
  auto other = low_rank("l", "ffn.key", 16, 24);
  other.card.base = "0123";
  EXPECT_NE(refused(other).find("another model"), std::string::npos);
  auto nan = low_rank("l", "ffn.key", 16, 24);
  nan.tensors["left"][0][0] = NAN;
  EXPECT_NE(refused(nan).find("not finite"), std::string::npos);
}

class OfFamily : public ::testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Families, OfFamily, ::testing::Values("opt", "llama", "gpt2"));

TEST_P(OfFamily, ALowRankBrickIsAddedToItsMatrixAndLeavesTheBaseAlone) {
  torch::manual_seed(2);
  const auto base = model_of(GetParam());
  const auto before = content_hash(base);
  BrickRegistry registry;
  registry.add(low_rank("one", "ffn.value", 24, 16));
  registry.add(low_rank("two", "attention.output", 16, 16));
  auto made = materialise(base, registry, {.active = {{"one", 0.5}, {"two", -1}}});
  auto expected = own_copy(base);
  for (const auto& [id, weight] : {std::pair{"one", 0.5}, {"two", -1.0}}) {
    auto brick = registry.at(id);
    brick.tensors["right"] = brick.tensors["right"] * weight;
    apply_low_rank(expected, brick);
  }
  EXPECT_LT(difference(logits(made), logits(expected)), 1e-5);
  EXPECT_GT(difference(logits(made), logits(base)), 1e-2);
  EXPECT_EQ(content_hash(base), before);
}

TEST_P(OfFamily, GrownNeuronsChangeNothingAtBirthAndSumWithTheRestAfterwards) {
  torch::manual_seed(3);
  const auto base = model_of(GetParam());
  auto grown = grown_neurons("new", base, 1, 6);
  BrickRegistry registry;
  registry.add(grown);
  const Configuration with{.active = {{"new", 1}}};
  EXPECT_LT(difference(logits(materialise(base, registry, with)), logits(base)), 1e-6);
  grown.tensors["value"] = torch::randn_like(grown.tensors["value"]);
  registry.update(grown);
  auto made = materialise(base, registry, with);
  EXPECT_GT(difference(logits(made), logits(base)), 1e-4);
  EXPECT_LT(difference(logits(plain(made)), logits(made)), 1e-5);
  EXPECT_EQ(plain(made)->config.neurons, 30);
}

TEST_P(OfFamily, TheRestRemovedIsTheRestSilenced) {
  const auto base = model_of(GetParam());
  BrickRegistry registry;
  const auto all = torch::randperm(24, torch::kLong);
  auto kept = brick("kept", BrickKind::neurons, 1), rest = brick("rest", BrickKind::neurons, 1);
  kept.tensors["index"] = all.slice(0, 0, 10).contiguous();
  rest.tensors["index"] = all.slice(0, 10).contiguous();
  registry.add(kept), registry.add(rest);
  auto removed = materialise(base, registry, {.active = {{"kept", 1}}, .rest_removed = true});
  auto silenced = materialise(base, registry, {.active = {{"rest", 0}}});
  EXPECT_EQ(removed->blocks[1].ffn.groups[0].neurons(), 10);
  EXPECT_LT(difference(logits(removed), logits(silenced)), 1e-5);
}

TEST_P(OfFamily, ALayerAndAllItsPartsOfWeightZeroAreTheSame) {
  const auto base = model_of(GetParam());
  BrickRegistry registry;
  registry.add(brick("layer", BrickKind::layer, 1));
  auto heads = brick("heads", BrickKind::head, 1), neurons = brick("all", BrickKind::neurons, 1);
  heads.tensors["index"] = torch::arange(2, torch::kLong);
  neurons.tensors["index"] = torch::arange(24, torch::kLong);
  registry.add(heads), registry.add(neurons);
  auto whole = materialise(base, registry, {.active = {{"layer", 0}}});
  auto parts = materialise(base, registry, {.active = {{"heads", 0}, {"all", 0}}});
  EXPECT_LT(difference(logits(whole), logits(parts)), 1e-5);  // biases are 0 at the start
}

TEST_P(OfFamily, ATaskVectorBringsTheTunedModelBack) {
  auto base = model_of(GetParam()), tuned = model_of(GetParam(), 2);
  auto vector = brick("task", BrickKind::task_vector, -1);
  vector.tensors = delta_of(base, tuned);
  BrickRegistry registry;
  registry.add(vector);
  auto made = materialise(base, registry, {.active = {{"task", 1}}});
  EXPECT_LT(difference(logits(made), logits(tuned)), 1e-5);
}

TEST_P(OfFamily, APlainModelOfBricksIsAnOrdinaryCheckpoint) {
  class Folder : public Scratch {
    void TestBody() override {}

   public:
    using Scratch::in;
  } folder;
  const auto base = model_of(GetParam());
  BrickRegistry registry;
  auto grown = grown_neurons("new", base, 0, 8);
  grown.tensors["value"] = torch::randn_like(grown.tensors["value"]);
  registry.add(grown);
  auto made = plain(materialise(base, registry, {.active = {{"new", 1}}}));
  lm::save(made, folder.in("model"), Dtype::f32);
  auto again = lm::load(folder.in("model"));
  EXPECT_LT(difference(logits(again), logits(made)), 1e-5);
}

TEST_P(OfFamily, TrainedLowRankBricksMakeTheTunedModel) {
  const auto base = model_of(GetParam());
  const train::TuningBatch batch = [](int64_t step) {
    torch::manual_seed(step);
    const auto ids = torch::randint(40, {2, 9}, torch::kLong);
    return std::pair{ids.narrow(1, 0, 8).contiguous(), ids.narrow(1, 1, 8).contiguous()};
  };
  const auto bricks =
      train_low_rank("t", base, batch, {.rank = 2, .tuning = {.steps = 3, .rate = 0.05}});
  BrickRegistry registry;
  Configuration all;
  for (const auto& one : bricks) registry.add(one), all.active.push_back({one.card.id, 1});
  const auto made = materialise(base, registry, all);
  auto vector = brick("sum", BrickKind::task_vector, -1);
  vector.tensors = dense_delta(base, bricks);
  registry.add(vector);
  const auto dense = materialise(base, registry, {.active = {{"sum", 1}}});
  EXPECT_LT(difference(logits(made), logits(dense)), 1e-5);
  EXPECT_GT(difference(logits(made), logits(base)), 1e-4);
}

TEST(Bricks, AnAdapterBesideAnFfnIsSoManyNeuronsMore) {
  const auto base = model_of("opt");
  auto adapter = brick("a", BrickKind::adapter, 0);
  adapter.tensors["down"] = torch::randn({4, 16}), adapter.tensors["up"] = torch::randn({16, 4});
  BrickRegistry registry;
  registry.add(adapter);
  auto made = materialise(base, registry, {.active = {{"a", 1}}});
  lm::Hooks hooks;
  torch::Tensor x;
  auto beside = own_copy(base);
  auto& ffn = beside->blocks[0].ffn;
  const auto group = ffn.groups[0];
  const auto bias = ffn.value_bias;
  ffn.instead = [=](const torch::Tensor& in) {
    const auto h = torch::relu(group.key.apply(in, group.key_bias));
    return group.value.apply(h, bias) +
           torch::matmul(torch::relu(torch::matmul(in, adapter.tensors.at("down").t())),
                         adapter.tensors.at("up").t());
  };
  EXPECT_LT(difference(logits(made), logits(beside)), 1e-5);
  EXPECT_THROW(materialise(model_of("llama"), registry, {.active = {{"a", 1}}}), Error);
}

TEST(Bricks, ConfigurationsDifferByWhatIsInThem) {
  const Configuration a{.active = {{"x", 1}, {"y", 1}, {"z", 1}}};
  const Configuration b{.active = {{"z", 1}, {"y", 0.5}, {"w", 1}}};
  const auto d = difference(a, b);
  EXPECT_EQ(d.only_first, std::vector<std::string>{"x"});
  EXPECT_EQ(d.only_second, std::vector<std::string>{"w"});
  EXPECT_EQ(d.other_weight, std::vector<std::string>{"y"});
  EXPECT_TRUE(d.other_order);
}

TEST(Bricks, RetrievesTheLikestWithinABudget) {
  const auto model = model_of("opt");
  BrickRegistry registry;
  const auto axis = [](int64_t i) {
    return torch::zeros({16}).index_fill(0, torch::tensor({i}), 1);
  };
  for (int64_t i = 0; i < 3; ++i) {
    auto one = brick(std::string(1, static_cast<char>('a' + i)), BrickKind::neurons);
    one.tensors["index"] = torch::arange(4 + 4 * i, torch::kLong);
    one.tensors["embedding"] = axis(i);
    registry.add(one);
  }
  const auto query = axis(2) + 0.3 * axis(1);
  const auto best = retrieve(registry, model, query, 2);
  ASSERT_EQ(best.size(), 2u);
  EXPECT_EQ(best[0].id, "c");
  EXPECT_EQ(best[1].id, "b");
  const auto cheap = retrieve(registry, model, query, 2, 2 * 16 * 8);
  EXPECT_EQ(cheap[0].id, "b");
  EXPECT_THROW(retrieve(registry, model, torch::zeros({3}), 1), Error);
  EXPECT_THROW(retrieve(BrickRegistry(), model, query, 1), Error);
}

TEST(Merge, RulesDoWhatTheirPapersSay) {
  const NamedTensors a{{"w", torch::tensor({4.0f, 1.0f, -2.0f, 0.1f})}};
  const NamedTensors b{{"w", torch::tensor({-1.0f, 3.0f, -4.0f, 0.2f})}};
  const auto merged = [&](MergeOptions o) { return merge_deltas({a, b}, o).at("w"); };
  EXPECT_TRUE(
      merged({.rule = MergeRule::average}).allclose(torch::tensor({1.5f, 2.0f, -3.0f, 0.15f})));
  EXPECT_TRUE(merged({.rule = MergeRule::arithmetic, .weights = {1, 2}})
                  .allclose(torch::tensor({2.0f, 7.0f, -10.0f, 0.5f})));
  // Half of the entries: a keeps 4 and -2, b keeps 3 and -4; both agree on the third alone.
  EXPECT_TRUE(merged({.rule = MergeRule::ties, .density = 0.5})
                  .allclose(torch::tensor({4.0f, 3.0f, -3.0f, 0.0f})));
}

TEST(Merge, DareKeepsTheMean) {
  const NamedTensors a{{"w", torch::ones({20000})}};
  const auto w = merge_deltas({a}, {.rule = MergeRule::dare, .density = 0.1}).at("w");
  EXPECT_NEAR(w.mean().item<double>(), 1, 0.05);
  EXPECT_NEAR(w.ne(0).to(torch::kFloat).mean().item<double>(), 0.1, 0.01);
}

TEST(Merge, ConcatenatedRanksAreTheSumToTheLastDigits) {
  const auto a = low_rank("a", "ffn.key", 16, 24), b = low_rank("b", "ffn.key", 16, 24);
  const auto both = concatenated("ab", {a, b}, {0.5, 2});
  const auto product = [](const Brick& one) {
    return torch::mm(one.tensors.at("right"), one.tensors.at("left").t());
  };
  EXPECT_LT(difference(product(both), product(a) * 0.5 + product(b) * 2), 1e-5);
  EXPECT_THROW(concatenated("x", {a, low_rank("c", "ffn.value", 24, 16)}, {}), Error);
}

TEST(Merge, RefusesOptionsThatMakeNoSense) {
  const NamedTensors a{{"w", torch::ones({4})}};
  EXPECT_THROW(merge_deltas({}, {}), Error);
  EXPECT_THROW(merge_deltas({a}, {.density = 0}), Error);
  EXPECT_THROW(merge_deltas({a}, {.density = 1.5}), Error);
  EXPECT_THROW(merge_deltas({a}, {.weights = {1, 2}}), Error);
  EXPECT_THROW(merge_deltas({a}, {.rule = MergeRule::average, .weights = {0}}), Error);
  EXPECT_THROW(merge_deltas({a, {{"w", torch::ones({5})}}}, {}), Error);
}

TEST_P(OfFamily, AnEditMapsItsKeyToItsValueAndIsTakenBackToTheBit) {
  auto base = model_of(GetParam());
  const auto before = content_hash(base);
  std::vector<int32_t> text;
  for (int i = 0; i < 160; ++i) text.push_back(i * 7 % 40);
  const auto moment = second_moment(base, 1, text, 160, 16);
  const Fact fact{{3, 9, 21}, 17};
  const EditOptions options{.layer = 1, .steps = 40};
  const auto key = fact_key(base, fact, options);
  const auto change = fact_change(base, fact, options);
  BrickRegistry registry;
  registry.add(rank_one("fact", base, 1, key, change, moment));
  auto edited = materialise(base, registry, {.active = {{"fact", 1}}});
  const auto values = [&](lm::Transformer& of) {
    return matrix_at(of, 1, "ffn.value").apply(key.to(torch::kFloat).unsqueeze(0)).squeeze(0);
  };
  const torch::NoGradGuard no_grad;
  EXPECT_LT(difference(values(edited), values(base) + change), 1e-4);
  EXPECT_EQ(likeliest(edited, fact.prompt), 17);
  EXPECT_EQ(content_hash(materialise(base, registry, {})), content_hash(own_copy(base)));
  EXPECT_EQ(content_hash(base), before);
}

TEST(Edit, OfFactsPutInOneAfterAnotherTheLastIsSaid) {
  const auto base = model_of("opt");
  auto reader = base;
  std::vector<int32_t> text;
  for (int i = 0; i < 160; ++i) text.push_back(i * 7 % 40);
  const std::vector<Fact> facts{{{3, 9, 21}, 17}, {{5, 30, 11}, 2}};
  EXPECT_EQ(share_said(base, facts), 0);
  const auto edited =
      edit_in_turn(base, facts, second_moment(reader, 1, text, 160, 16), {.layer = 1, .steps = 40});
  EXPECT_LT(edited.largest_error, 1e-4);
  const auto both = materialise(base, edited.registry, edited.configuration);
  const auto last = std::span(facts).last(1);
  EXPECT_EQ(share_said(both, last), 1);
  EXPECT_EQ(share_said(both, last, std::vector<int32_t>(14, 1)), 1);  // too long: the prompt alone
  EXPECT_THROW(share_said(both, {}), Error);
}

TEST(Edit, RefusesWhatIsNoFact) {
  auto model = model_of("opt");
  EXPECT_THROW(fact_key(model, {{}, 1}, {}), Error);
  EXPECT_THROW(fact_key(model, {{1}, 40}, {}), Error);
  EXPECT_THROW(fact_key(model, {{1}, 1}, {.layer = 2}), Error);
  EXPECT_THROW(second_moment(model, 0, std::vector<int32_t>{1, 2}, 100, 16), Error);
}

}  // namespace
