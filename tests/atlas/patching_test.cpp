#include "cajal/atlas/patching.h"

#include "cajal/atlas/attribution.h"
#include "models/tiny.h"

namespace cajal::atlas {
namespace {

using namespace lm::testing;

std::vector<Json> families() {
  Json pre_opt = tiny_opt();
  pre_opt["do_layer_norm_before"] = true;
  return {tiny_llama(), tiny_gemma2(),   tiny_gemma3(), tiny_gpt2(), tiny_opt(),
          pre_opt,      tiny_gpt_neox(), tiny_phi3(),   tiny_bert()};
}

torch::Tensor other_ids(int64_t batch, int64_t tokens) {
  torch::manual_seed(77);
  return torch::randint(50, {batch, tokens}, torch::kLong);
}

TEST(Patching, OfEverythingIsTheOtherRunExactly) {
  const torch::NoGradGuard no_grad;
  for (const auto& json : families()) {
    auto model = tiny_model(json);
    const auto ids = some_ids(2, 7), others = other_ids(2, 7);
    const auto source = record(model, others, {"*"});
    lm::Hooks hooks;
    patch(hooks, {"*"}, source.values);
    EXPECT_TRUE(model->forward(ids, {.hooks = &hooks}).equal(source.output)) << json["model_type"];
    EXPECT_FALSE(model->forward(ids).equal(source.output));
  }
}

TEST(Patching, OfTheLastResidualIsTheOtherRunExactly) {
  const torch::NoGradGuard no_grad;
  auto model = tiny_model(tiny_llama());
  const auto ids = some_ids(2, 7), others = other_ids(2, 7);
  lm::Hooks hooks;
  patch(hooks, {"resid_post1"}, record(model, others, {"resid_post1"}).values);
  EXPECT_TRUE(model->forward(ids, {.hooks = &hooks}).equal(model->forward(others)));
}

TEST(Patching, ChangesOnlyTheSite) {
  const torch::NoGradGuard no_grad;
  auto model = tiny_model(tiny_opt());
  const auto ids = some_ids(2, 6), others = other_ids(2, 6);
  const auto source = record(model, others, {"post1", "z1"});
  const auto own = record(model, ids, {"post1", "z1"});
  lm::Hooks hooks;
  patch(hooks, {"post1", {2, -1}, {}, {5, 9}}, source.values);
  const auto patched = record(model, ids, {"post1"}, {.hooks = &hooks}).values.begin()->second;
  auto expected = own.values.at("blocks.1.mlp.hook_post").clone();
  for (const int64_t t : {2, 5})
    for (const int64_t n : {5, 9})
      expected.select(1, t).select(1, n).copy_(
          source.values.at("blocks.1.mlp.hook_post").select(1, t).select(1, n));
  EXPECT_TRUE(patched.equal(expected));

  lm::Hooks heads;
  patch(heads, {"z1", {0}, {3}}, source.values);
  const auto z = record(model, ids, {"z1"}, {.hooks = &heads}).values.begin()->second;
  auto z_expected = own.values.at("blocks.1.attn.hook_z").clone();
  z_expected.select(1, 0).select(1, 3).copy_(
      source.values.at("blocks.1.attn.hook_z").select(1, 0).select(1, 3));
  EXPECT_TRUE(z.equal(z_expected));
}

TEST(Patching, SaysWhatDoesNotFit) {
  const torch::NoGradGuard no_grad;
  auto model = tiny_model(tiny_llama());
  const auto ids = some_ids(2, 6);
  const auto source = record(model, ids, {"post1"});
  const auto said = [&](const Site& site, const Recording& from) {
    return message([&] {
      lm::Hooks hooks;
      patch(hooks, site, from);
      model->forward(ids, {.hooks = &hooks});
    });
  };
  EXPECT_NE(said({"post1", {6}}, source.values).find("position 6 is out of range"),
            std::string::npos);
  EXPECT_NE(said({"post1", {}, {0}}, source.values).find("has no heads"), std::string::npos);
  EXPECT_NE(said({"post0"}, source.values).find("the source holds no 'blocks.0.mlp.hook_post'"),
            std::string::npos);
  EXPECT_NE(said({"post1"}, record(model, some_ids(2, 5), {"post1"}).values).find("expected [2, 6"),
            std::string::npos);
  EXPECT_NE(message([&] { record(model, ids, {"post9"}); }).find("blocks.9.mlp.hook_post"),
            std::string::npos);
}

TEST(Ablation, ZeroMeanAndResampleSetWhatTheySay) {
  const torch::NoGradGuard no_grad;
  auto model = tiny_model(tiny_gpt2());
  const auto ids = some_ids(3, 6);
  const auto reference = record(model, other_ids(5, 6), {"post0"}).values;
  const auto& values = reference.at("blocks.0.mlp.hook_post");
  const auto after = [&](Ablate how) {
    lm::Hooks hooks;
    ablate(hooks, {"post0", {}, {}, {4}}, how, reference, 9);
    return record(model, ids, {"post0"}, {.hooks = &hooks})
        .values.begin()
        ->second.select(-1, 4)
        .clone();
  };
  EXPECT_EQ(after(Ablate::zero).abs().max().item<float>(), 0);
  EXPECT_LT(difference(after(Ablate::mean), values.select(-1, 4).mean(0).expand({3, 6})), 1e-7);
  const auto resampled = after(Ablate::resample);
  for (int64_t row = 0; row < 3; ++row)
    EXPECT_TRUE((values.select(-1, 4) - resampled[row]).abs().sum(1).min().item<float>() == 0);
}

TEST(Ablation, MeansOverPositionsServeTextsOfAnyLength) {
  const torch::NoGradGuard no_grad;
  auto model = tiny_model(tiny_llama());
  const auto reference = means(record(model, other_ids(4, 9), {"post0", "pattern0"}).values, true);
  EXPECT_EQ(reference.size(), 1u);  // a pattern has no mean over positions
  lm::Hooks hooks;
  ablate(hooks, {"post0"}, Ablate::mean, reference);
  const auto post =
      record(model, some_ids(1, 3), {"post0"}, {.hooks = &hooks}).values.begin()->second;
  EXPECT_TRUE(post.select(1, 0).equal(post.select(1, 2)));
}

TEST(NormSplit, AddsUpAndHasNoNormPartForAConstantScale) {
  const torch::NoGradGuard no_grad;
  auto model = tiny_model(tiny_opt());
  const auto ids = some_ids(2, 6);
  const auto metric = logit_of(torch::tensor({3, 4}, torch::kLong));
  lm::Hooks change;
  ablate(change, {"post1", {}, {}, {1, 2, 3}}, Ablate::zero);
  Json pre = tiny_opt();
  pre["do_layer_norm_before"] = true;
  auto pre_model = tiny_model(pre);
  const auto split = frozen_norm_split(pre_model, ids, change, metric);
  EXPECT_LT(difference(split.total, split.direct + split.through_norms), 1e-6);
  EXPECT_GT(split.through_norms.abs().max().item<float>(), 1e-4);
  const auto plain =
      metric(pre_model->forward(ids, {.hooks = &change})) - metric(pre_model->forward(ids));
  EXPECT_LT(difference(split.total, plain), 1e-5);
  lm::Hooks nothing;
  EXPECT_EQ(frozen_norm_split(pre_model, ids, nothing, metric).total.abs().max().item<float>(), 0);
}

TEST(Patching, WorksInDouble) {
  const torch::NoGradGuard no_grad;
  auto model = tiny_model(tiny_llama());
  model->to(torch::kDouble);
  const auto source = record(model, other_ids(1, 5), {"*"});
  EXPECT_EQ(source.output.scalar_type(), torch::kDouble);
  lm::Hooks hooks;
  patch(hooks, {"*"}, source.values);
  EXPECT_TRUE(model->forward(some_ids(1, 5), {.hooks = &hooks}).equal(source.output));
}

}  // namespace
}  // namespace cajal::atlas
