#include "cajal/atlas/attribution.h"

#include "models/tiny.h"

namespace cajal::atlas {
namespace {

using namespace lm::testing;

torch::Tensor other_ids(int64_t batch, int64_t tokens) {
  torch::manual_seed(77);
  return torch::randint(50, {batch, tokens}, torch::kLong);
}

const auto answers = torch::tensor({3, 4}, torch::kLong);
const auto wrong = torch::tensor({7, 8}, torch::kLong);

TEST(Attribution, OfOneStepIsGradientTimesDifference) {
  auto model = tiny_model(tiny_gpt2());
  model->to(torch::kDouble);
  const auto ids = some_ids(2, 5), others = other_ids(2, 5);
  const auto metric = logit_difference(answers, wrong);
  const auto scores = attribution_patching(model, ids, others, {"post0"}, metric);
  const auto source = record(model, others, {"post0"}).values.begin()->second;
  const auto own = record(model, ids, {"post0"}).values.begin()->second;
  // The slope along the difference, by central differences, one unit at a time.
  const torch::NoGradGuard no_grad;
  for (const int64_t unit : {0, 17, 60}) {
    const auto moved = [&](double step) {
      lm::Hooks hooks;
      patch(hooks, {"post0", {2}, {}, {unit}},
            {{"blocks.0.mlp.hook_post", own + step * (source - own)}});
      return metric(model->forward(ids, {.hooks = &hooks}));
    };
    const auto slope = (moved(1e-5) - moved(-1e-5)) / 2e-5;
    const auto score = scores.at("blocks.0.mlp.hook_post").select(1, 2).select(1, unit);
    EXPECT_LT(difference(slope, score), 1e-6) << unit;
  }
}

TEST(Attribution, LaterPointsDoNotCutEarlierOnesOff) {
  auto model = tiny_model(tiny_llama());
  const auto ids = some_ids(2, 5), others = other_ids(2, 5);
  const auto metric = logit_of(answers);
  const auto alone = attribution_patching(model, ids, others, {"post0"}, metric);
  const auto together =
      attribution_patching(model, ids, others, {"blocks.*.mlp.hook_post", "resid_post0"}, metric);
  EXPECT_LT(difference(alone.at("blocks.0.mlp.hook_post"), together.at("blocks.0.mlp.hook_post")),
            1e-5);
  EXPECT_EQ(together.size(), 3u);
}

TEST(Attribution, OfManyStepsSumsToTheEffectOfPatchingThePoint) {
  auto model = tiny_model(tiny_gpt2());
  model->to(torch::kDouble);
  const auto ids = some_ids(2, 5), others = other_ids(2, 5);
  const auto metric = logit_of(answers);
  const auto scores = attribution_patching(model, ids, others, {"post1"}, metric, {.steps = 300});
  const torch::NoGradGuard no_grad;
  lm::Hooks hooks;
  patch(hooks, {"post1"}, record(model, others, {"post1"}).values);
  const auto effect = metric(model->forward(ids, {.hooks = &hooks})) - metric(model->forward(ids));
  EXPECT_LT(difference(scores.begin()->second.sum(torch::IntArrayRef({1, 2})), effect), 1e-3);
}

TEST(Attribution, RefusesASourceOfAnotherShape) {
  auto model = tiny_model(tiny_llama());
  EXPECT_NE(message([&] {
              attribution_patching(model, some_ids(2, 5), some_ids(2, 6), {"post0"},
                                   logit_of(answers));
            }).find("expected [2, 5]"),
            std::string::npos);
}

TEST(IndirectEffect, FollowsItsFormulaAndIsZeroWithoutIntervention) {
  const auto before = torch::randn({2, 3, 9}, torch::kDouble);
  const auto after = torch::randn({2, 3, 9}, torch::kDouble);
  const auto r = torch::tensor({1, 2}, torch::kLong), s = torch::tensor({4, 0}, torch::kLong);
  const auto metric = indirect_effect(before, r, s);
  EXPECT_LT(metric(before).abs().max().item<double>(), 1e-12);
  const auto p = torch::softmax(before.select(1, -1), -1),
             q = torch::softmax(after.select(1, -1), -1);
  for (int64_t b = 0; b < 2; ++b) {
    const auto at = [&](const torch::Tensor& t, const torch::Tensor& ids) {
      return t[b][ids[b].item<int64_t>()].item<double>();
    };
    const double expected =
        0.5 * ((at(q, s) - at(p, s)) / at(p, s) + (at(p, r) - at(q, r)) / at(q, r));
    EXPECT_NEAR(metric(after)[b].item<double>(), expected, 1e-12);
  }
}

TEST(PatchEach, EqualsALoopOverUnits) {
  const torch::NoGradGuard no_grad;
  auto model = tiny_model(tiny_llama());
  const auto ids = some_ids(2, 5), others = other_ids(2, 5);
  const auto source = record(model, others, {"post1"}).values.begin()->second;
  const auto each = patch_each(
      model, ids, source, "post1", {3, 0, 63, 11, 12}, -1,
      [&](int64_t copies) { return logit_of(answers.repeat({copies})); }, 4);
  int64_t row = 0;
  for (const int64_t unit : {3, 0, 63, 11, 12}) {
    lm::Hooks hooks;
    patch(hooks, {"post1", {-1}, {}, {unit}}, {{"blocks.1.mlp.hook_post", source}});
    EXPECT_LT(difference(each[row++], logit_of(answers)(model->forward(ids, {.hooks = &hooks}))),
              1e-5);
  }
}

TEST(IntegratedGradients, AreCompleteAndExactForASquare) {
  const auto x = torch::tensor({1.0, -2.0, 3.0}), zero = torch::zeros({3}, torch::kDouble);
  const auto ig = integrated_gradients([](const torch::Tensor& t) { return t.square().sum(); },
                                       x.to(torch::kDouble), zero, 7);
  EXPECT_LT(difference(ig, x.to(torch::kDouble).square()), 1e-12);
}

}  // namespace
}  // namespace cajal::atlas
