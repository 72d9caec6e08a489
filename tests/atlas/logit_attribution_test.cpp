#include "cajal/atlas/logit_attribution.h"

#include "cajal/atlas/probe.h"
#include "models/tiny.h"

namespace cajal::atlas {
namespace {

using namespace lm::testing;

TEST(LogitAttribution, SumsToTheLogitsInEveryFamilyAndForm) {
  Json pre_opt = tiny_opt();
  pre_opt["do_layer_norm_before"] = true;
  for (const auto& json : {tiny_llama(), tiny_gemma2(), tiny_gemma3(), tiny_gpt2(), tiny_opt(),
                           pre_opt, tiny_gpt_neox(), tiny_phi3(), tiny_bert()}) {
    auto model = tiny_model(json);
    model->to(torch::kDouble);
    const auto ids = some_ids(2, 6), targets = ids.roll(1, 1);
    const auto logits = model->forward(ids).detach();
    const auto cap = model->config.logit_cap;
    const auto raw = cap > 0 ? cap * torch::atanh(logits / cap) : logits;
    const auto expected = raw.gather(-1, targets.unsqueeze(-1)).squeeze(-1);
    const auto minus = raw.gather(-1, ids.unsqueeze(-1)).squeeze(-1);
    for (const auto parts : {LogitParts::layers, LogitParts::heads, LogitParts::neurons}) {
      const auto out = direct_logit_attribution(model, ids, targets, parts);
      const double size = expected.abs().max().item<double>();
      EXPECT_LT(difference(out.sum(), expected) / size, 1e-9)
          << json["model_type"] << to_name(parts);
      EXPECT_LT(difference(out.logits, expected) / size, 1e-9);
      const auto both = direct_logit_attribution(model, ids, targets, parts, ids);
      EXPECT_LT(difference(both.sum(), expected - minus) / size, 1e-9) << json["model_type"];
    }
  }
}

TEST(LogitAttribution, OfTheLastNeuronsIsAblationWithTheFinalNormFrozen) {
  const torch::NoGradGuard no_grad;
  auto model = tiny_model(tiny_llama());
  model->to(torch::kDouble);
  const auto ids = some_ids(1, 6), targets = ids.roll(1, 1);
  const auto out = direct_logit_attribution(model, ids, targets, LogitParts::neurons);
  lm::Hooks change;
  ablate(change, {"post1", {}, {}, {13}}, Ablate::zero);
  const auto split = frozen_norm_split(model, ids, change, [&](const torch::Tensor& logits) {
    return logits.gather(-1, targets.unsqueeze(-1)).squeeze(-1);
  });
  EXPECT_LT(difference(out.at("blocks.1.mlp.neurons").select(-1, 13), -split.direct), 1e-9);
}

TEST(LogitAttribution, NamesThePartsThereAre) {
  auto model = tiny_model(tiny_llama());
  const auto out = direct_logit_attribution(model, some_ids(1, 3), some_ids(1, 3));
  EXPECT_NE(message([&] { out.at("blocks.7.mlp"); }).find("blocks.1.mlp"), std::string::npos);
  EXPECT_THROW(direct_logit_attribution(model, some_ids(1, 3), some_ids(1, 4)), Error);
}

TEST(FoldedUnembedding, HoldsWhatAResidualWritesUpToTheScale) {
  auto model = tiny_model(tiny_gpt2());
  model->to(torch::kDouble);
  const torch::NoGradGuard no_grad;
  const auto x = torch::randn({1, 1, 32}, torch::kDouble),
             y = torch::randn({1, 1, 32}, torch::kDouble);
  const auto scale = [&](const torch::Tensor& t) {
    return (t.var(-1, false) + 1e-5).sqrt().item<double>();
  };
  const auto folded = folded_unembedding(model);
  const auto difference_of = model->unembed(x) - model->unembed(y);
  const auto expected = torch::matmul(x / scale(x) - y / scale(y), folded.t());
  EXPECT_LT(difference(difference_of, expected), 1e-9);
}

TEST(LinearProbe, FindsClassesThatALineParts) {
  torch::manual_seed(6);
  const auto x = torch::randn({600, 5}) * 3 + 1;
  const auto labels =
      torch::stack({x.select(1, 0) * 2, x.select(1, 1) - x.select(1, 2), x.select(1, 3)}, 1)
          .argmax(1);
  const auto probe = fit_classes(x.slice(0, 0, 400), labels.slice(0, 0, 400), 3, {.l2 = 1e-5});
  EXPECT_GT(probe.accuracy(x.slice(0, 400), labels.slice(0, 400)), 0.97);
  EXPECT_THROW(fit_classes(x, labels, 2), Error);
}

TEST(LinearProbe, RecoversALinearMap) {
  torch::manual_seed(7);
  const auto x = torch::randn({200, 6}, torch::kDouble), w = torch::randn({2, 6}, torch::kDouble);
  const auto y = torch::matmul(x, w.t()) + 0.5;
  const auto probe = fit_values(x, y);
  EXPECT_LT(difference(probe.weight, w), 1e-5);
  EXPECT_LT(difference(probe(x), y), 1e-4);
}

}  // namespace
}  // namespace cajal::atlas
