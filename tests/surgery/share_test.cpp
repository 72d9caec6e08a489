#include "cajal/surgery/share.h"

#include <gtest/gtest.h>

#include <numeric>

#include "cajal/models/lm/generate.h"
#include "cajal/surgery/distill_fff.h"
#include "cajal/surgery/split.h"
#include "cajal/surgery/write.h"
#include "models/tiny.h"

namespace cajal::surgery {
namespace {

using lm::testing::difference;
using lm::testing::message;

std::vector<int32_t> text(int64_t tokens = 400) {
  std::vector<int32_t> out;
  for (int64_t i = 0; i < tokens; ++i) out.push_back(static_cast<int32_t>((i * i + 3 * i) % 50));
  return out;
}

torch::Tensor logits(lm::Transformer& model) {
  const torch::NoGradGuard no_grad;
  return model->forward(lm::testing::some_ids(2, 8));
}

TEST(SharePlan, WordsAndPlanSayTheSame) {
  const auto plan = SharePlan::parse("own,shared:a,none,shared:a", 4);
  EXPECT_EQ(plan.uses, (std::vector<int64_t>{0, 1, -1, 1}));
  EXPECT_EQ(plan.text(), "own,shared:1,none,shared:1");
}

TEST(SharePlan, RefusesWordsThatAreNoPlan) {
  EXPECT_EQ(message([] { SharePlan::parse("own,share", 2); }),
            "plan: entry 1 is 'share', expected own, none or shared:GROUP");
  EXPECT_EQ(message([] { SharePlan::parse("own", 2); }), "plan: 1 entries, the model has 2 layers");
}

TEST(Propose, NeighboursThatAreMostAlikeShare) {
  const std::vector<std::vector<double>> alike = {
      {1, .2, .1, .1}, {.2, 1, .9, .3}, {.1, .9, 1, .4}, {.1, .3, .4, 1}};
  EXPECT_EQ(propose(alike, 4).uses, (std::vector<int64_t>{0, 1, 2, 3}));
  EXPECT_EQ(propose(alike, 3).uses, (std::vector<int64_t>{0, 1, 1, 3}));
  EXPECT_EQ(propose(alike, 1).uses, (std::vector<int64_t>{0, 0, 0, 0}));
  EXPECT_THROW(propose(alike, 0), Error);
  EXPECT_THROW(propose(alike, 5), Error);
}

TEST(Share, APlanOfOwnNetworksChangesNothing) {
  for (const auto& json : {lm::testing::tiny_llama(), lm::testing::tiny_gpt2()}) {
    auto model = lm::testing::tiny_model(json);
    auto form = shared(model, SharePlan::own(2));
    EXPECT_EQ(difference(logits(model), logits(form)), 0);
  }
}

TEST(Share, AligningUndoesAPermutationOfTheNeurons) {
  for (const auto& json : {lm::testing::tiny_llama(), lm::testing::tiny_gpt2()}) {
    auto model = lm::testing::tiny_model(json);
    // The second layer holds the first one's neurons in another order.
    const auto rows = neuron_rows(model->blocks[0].ffn);
    const auto order = torch::randperm(rows.neurons());
    auto& first = model->blocks[0].ffn;
    auto& second = model->blocks[1].ffn;
    const bool conv1d = first.groups[0].key.major() == Major::input;
    const auto turned = [&](const Matrix& m, bool outputs) {
      return Matrix::dense(m.stored().detach().index_select(conv1d == outputs ? 1 : 0, order),
                           m.major());
    };
    second.groups[0].key = turned(first.groups[0].key, true);
    if (first.groups[0].gate.defined()) second.groups[0].gate = turned(first.groups[0].gate, true);
    second.groups[0].value = turned(first.groups[0].value, false);
    if (first.groups[0].key_bias.defined())
      second.groups[0].key_bias = first.groups[0].key_bias.detach().index_select(0, order);
    if (first.value_bias.defined()) second.value_bias = first.value_bias.detach();
    auto form = shared(model, SharePlan::parse("shared:a,shared:a", 2));
    EXPECT_LT(difference(logits(model), logits(form)), 1e-5);
    auto careless = shared(model, SharePlan::parse("shared:a,shared:a", 2), /*aligned=*/false);
    EXPECT_GT(difference(logits(model), logits(careless)), 1e-3);
  }
}

TEST(Share, ALayerWithoutANetworkAddsNothing) {
  auto model = lm::testing::tiny_model(lm::testing::tiny_llama());
  auto form = shared(model, SharePlan::parse("own,none", 2));
  lm::Hooks hooks;
  double written = -1;
  hooks.add("blocks.1.hook_mlp_out", [&](std::string_view, const torch::Tensor& value) {
    written = value.abs().max().item<double>();
    return torch::Tensor();
  });
  lm::Pass pass;
  pass.hooks = &hooks;
  const torch::NoGradGuard no_grad;
  form->forward(lm::testing::some_ids(1, 4), pass);
  EXPECT_EQ(written, 0);
}

class Written : public ::testing::Test {
 protected:
  lm::testing::Folder folder;
  lm::Transformer model = lm::testing::tiny_model(lm::testing::tiny_gpt2());

  lm::Transformer original() {
    lm::save(model, folder.path() / "a", Dtype::f32);
    return lm::load(folder.path() / "a");
  }
};

TEST_F(Written, ASharedNetworkIsStoredOnceAndReadByAllItsLayers) {
  auto source = original();
  auto form = shared(source, SharePlan::parse("shared:a,shared:a", 2));
  write(form, folder.path() / "a", folder.path() / "b");
  auto again = lm::load(folder.path() / "b");
  EXPECT_LT(difference(logits(form), logits(again)), 1e-6);
  EXPECT_TRUE(again->blocks[0].ffn.groups[0].key.stored().is_same(
      again->blocks[1].ffn.groups[0].key.stored()));
  const auto file = TensorFile::open(folder.path() / "b");
  EXPECT_TRUE(file.tensors().contains("transformer.h.0.mlp.c_fc.weight"));
  EXPECT_FALSE(file.tensors().contains("transformer.h.1.mlp.c_fc.weight"));
}

TEST_F(Written, TuningKeepsTheTieAndSavingToo) {
  auto source = original();
  const auto plan = SharePlan::parse("shared:a,shared:a", 2);
  auto form = shared(source, plan);
  tune(form, plan, text(), {.steps = 2, .batch = 2, .context = 16});
  EXPECT_TRUE(form->blocks[0].ffn.groups[0].key.stored().is_same(
      form->blocks[1].ffn.groups[0].key.stored()));
  lm::save(form, folder.path() / "c", Dtype::f32);
  auto again = lm::load(folder.path() / "c");
  EXPECT_LT(difference(logits(form), logits(again)), 1e-6);
}

TEST_F(Written, RefusesASharingThatPointsForward) {
  auto source = original();
  auto form = shared(source, SharePlan::parse("shared:a,shared:a", 2));
  write(form, folder.path() / "a", folder.path() / "b");
  auto json = read_json(folder.path() / "b" / "config.json");
  json["cajal"]["shared_ffn"] = {1, 1};
  write_json(folder.path() / "b" / "config.json", json);
  EXPECT_NE(message([&] { lm::load(folder.path() / "b"); }).find("shared_ffn[0] is 1"),
            std::string::npos);
}

TEST(Share, RefusesTextShorterThanAWindow) {
  auto model = lm::testing::tiny_model(lm::testing::tiny_gpt2());
  EXPECT_NE(message([&] { ffn_likeness(model, std::vector<int32_t>{}, 64); }), "");
  EXPECT_NE(message([&] { tune(model, SharePlan::own(2), std::vector<int32_t>{1}, {}); }), "");
}

TEST(Distill, ATreeLearnsWhatAnFfnWritesBetterThanNothing) {
  auto model = lm::testing::tiny_model(lm::testing::tiny_gpt2());
  const auto ids = text();
  auto trees =
      distill(model, ids, {.leaf_width = 8, .depth = 2, .tokens = 384, .steps = 150, .batch = 128});
  ASSERT_EQ(trees.size(), 2u);
  lm::Transformer form(model->config);
  form->embedding = model->embedding, form->blocks = model->blocks, form->output = model->output;
  auto silent = shared(model, SharePlan::parse("none,none", 2));
  replace_by_trees(form, trees);
  const auto wanted = logits(model);
  EXPECT_LT((logits(form) - wanted).square().mean().item<double>(),
            (logits(silent) - wanted).square().mean().item<double>());
}

TEST(Distill, RefusesOptionsAndTextThatTeachNothing) {
  auto model = lm::testing::tiny_model(lm::testing::tiny_gpt2());
  EXPECT_NE(message([&] { distill(model, text(), {.steps = 0}); }).find("steps"),
            std::string::npos);
  EXPECT_NE(message([&] { distill(model, std::vector<int32_t>{}, {}); }), "");
  EXPECT_NE(message([&] { distill(model, text(), {.depth = 40}); }).find("depth is 40"),
            std::string::npos);
}

}  // namespace
}  // namespace cajal::surgery
