#include "cajal/atlas/correlate.h"

#include <gtest/gtest.h>

#include "cajal/atlas/confidence.h"
#include "cajal/atlas/measure.h"
#include "cajal/atlas/planted_neurons.h"
#include "models/tiny.h"

namespace cajal::atlas {
namespace {

torch::Tensor two_pass(const torch::Tensor& a, const torch::Tensor& b) {
  const auto x = a.to(torch::kDouble) - a.to(torch::kDouble).mean(0);
  const auto y = b.to(torch::kDouble) - b.to(torch::kDouble).mean(0);
  return torch::mm(x.t(), y) / torch::outer(x.norm(2, 0), y.norm(2, 0));
}

TEST(Pearson, EqualsTwoPassesInDoubleInWhateverOrder) {
  torch::manual_seed(1);
  const auto a = torch::randn({6000, 30}) + 5, b = a.slice(1, 0, 20) + torch::randn({6000, 20});
  Pearson forward(30, 20, {{0, 20}}, false), backward(30, 20, {{0, 20}}, false);
  for (int64_t t = 0; t < 6000; t += 500) {
    forward.add(a.slice(0, t, t + 500), b.slice(0, t, t + 500));
    backward.add(a.slice(0, 5500 - t, 6000 - t), b.slice(0, 5500 - t, 6000 - t));
  }
  EXPECT_LT((forward.rho(0, 30) - two_pass(a, b)).abs().max().item<double>(), 1e-6);
  EXPECT_LT((backward.rho(0, 30) - two_pass(a, b)).abs().max().item<double>(), 1e-6);
  EXPECT_EQ(forward.tokens(), 6000);
}

TEST(Pearson, InBfloat16IsOffByNoMoreThanItsRounding) {
  torch::manual_seed(1);
  const auto a = torch::randn({6000, 70}).clamp_min(0) + 5;
  const auto b = a.slice(1, 0, 40) + torch::randn({6000, 40});
  Pearson sums(70, 40, {{0, 40}}, true, Precision::bf16);
  for (int64_t t = 0; t < 6000; t += 1500)
    sums.add(a.slice(0, t, t + 1500), b.slice(0, t, t + 1500));
  EXPECT_LT((sums.rho(0, 70) - two_pass(a, b)).abs().max().item<double>(), 3e-4);
}

TEST(Pearson, TakesSlicesOfWiderTables) {
  torch::manual_seed(1);
  const auto a = torch::randn({600, 30}), b = torch::randn({600, 30});
  for (const auto precision : {Precision::f32, Precision::bf16}) {
    Pearson sums(7, 5, {{0, 5}}, false, precision);
    sums.add(a.slice(1, 3, 10), b.slice(1, 20, 25));
    EXPECT_LT((sums.rho(0, 7) - two_pass(a.slice(1, 3, 10), b.slice(1, 20, 25)))
                  .abs()
                  .max()
                  .item<double>(),
              precision == Precision::f32 ? 1e-6 : 1e-3);
  }
}

TEST(Pearson, TurnsABasisByLinearity) {
  torch::manual_seed(2);
  const auto a = torch::randn({3000, 10}), b = a.clamp_min(0) + torch::randn({3000, 10});
  Pearson sums(10, 10, {{0, 4}, {4, 10}}, true);
  sums.add(a, b);
  for (const auto basis : {Basis::gaussian, Basis::orthogonal}) {
    const auto turn = random_turn(basis, 6, 3);
    const auto turned = torch::mm(b.slice(1, 4).to(torch::kDouble), turn.t());
    EXPECT_LT((sums.turned(1, turn) - two_pass(a, turned)).abs().max().item<double>(), 1e-5);
  }
}

TEST(Pearson, IsZeroForASeriesThatNeverChanges) {
  Pearson sums(2, 1, {{0, 1}}, false);
  auto a = torch::randn({100, 2});
  a.select(1, 1).fill_(3);
  sums.add(a, torch::randn({100, 1}));
  EXPECT_EQ(sums.rho(0, 2)[1][0].item<double>(), 0);
  EXPECT_NE(sums.rho(0, 2)[0][0].item<double>(), 0);
}

TEST(Pearson, RefusesShapesThatDoNotFit) {
  Pearson sums(2, 3, {{0, 3}}, false);
  EXPECT_THROW(sums.add(torch::zeros({5, 2}), torch::zeros({4, 3})), Error);
  EXPECT_THROW(sums.add(torch::zeros({5, 3}), torch::zeros({5, 3})), Error);
  EXPECT_THROW(sums.turned(0, torch::eye(3)), Error);
  EXPECT_THROW(Pearson(2, 3, {{0, 4}}, false), Error);
}

TEST(RandomTurn, IsOrthogonalOrOfUnitRows) {
  const auto q = random_turn(Basis::orthogonal, 12, 1), g = random_turn(Basis::gaussian, 12, 1);
  EXPECT_TRUE(torch::allclose(torch::mm(q, q.t()), torch::eye(12, torch::kDouble)));
  EXPECT_TRUE(torch::allclose(g.norm(2, 1), torch::ones({12}, torch::kDouble)));
}

TEST(Correlate, FindsEveryNeuronOfAModelInItself) {
  auto p = plant_neurons(
      {.layers = 1, .neurons = 256, .vocabulary = 512, .context = 64, .tokens = 3000});
  const auto whole = correlate(p.model, p.model, p.text);
  const auto parts = correlate(p.model, p.model, p.text, {.memory = 8 * 256 * 100});
  for (int64_t i = 0; i < 256; ++i) {
    const auto& best = whole.best[i * whole.kept];
    EXPECT_TRUE(best.rho == 0 || std::fabs(best.rho - 1) < 1e-5) << best.rho;
    EXPECT_NEAR(parts.best[i * whole.kept].rho, best.rho, 1e-6);
    EXPECT_LT(whole.turned[i], 1);
  }
}

// A readout of random weights with two null directions, and a stream for it.
Readout random_readout(bool centred) {
  Readout r;
  r.unembed = torch::randn({16, 100}), r.bias = torch::randn({100}) * 0.1;
  r.unembed.slice(0, 0, 2).zero_();
  r.value = torch::randn({24, 16}), r.centred = centred;
  return r;
}
LastStream random_stream() {
  return {torch::randn({20, 16}), torch::randn({20, 24}),
          torch::randint(0, 100, {20}, torch::kLong)};
}

TEST(Ablation, ByRankOneEqualsRecomputation) {
  torch::manual_seed(3);
  for (const bool centred : {false, true}) {
    std::vector<int64_t> counts(100, 5);
    for (int64_t v = 0; v < 100; ++v) counts[v] += v * v;
    const Ablation ablation(random_readout(centred), random_stream(), unigram_direction(counts),
                            counts);
    for (const int64_t n : {0, 11, 23})
      for (const auto freeze : {Freeze::nothing, Freeze::scale, Freeze::unigram}) {
        const auto fast = ablation.run(n, freeze), slow = ablation.recomputed(n, freeze);
        for (size_t t = 0; t < fast.size(); ++t) {
          EXPECT_NEAR(fast[t].loss, slow[t].loss, 1e-5);
          EXPECT_NEAR(fast[t].entropy, slow[t].entropy, 1e-5);
          EXPECT_EQ(fast[t].top, slow[t].top);
          EXPECT_EQ(fast[t].rank, slow[t].rank);
        }
      }
  }
}

// Against the model itself, run again with the neuron held at its mean by a hook.
TEST(Ablation, EqualsTheModelRunAgain) {
  const torch::NoGradGuard no_grad;
  const int64_t length = 40;
  auto opt = lm::testing::tiny_opt();
  opt["do_layer_norm_before"] = true;
  for (const auto& json : {lm::testing::tiny_llama(), opt}) {
    auto model = lm::testing::tiny_model(json);
    const bool begins = model->config.begin_id >= 0;
    std::vector<int32_t> ids;
    for (int64_t t = 0; t <= length; ++t) ids.push_back(static_cast<int32_t>((t * t + 3 * t) % 50));
    const auto stream = last_stream(model, ids, length + begins, length);
    const Ablation ablation(readout(model), stream);
    const auto input = windows(model->config, std::span(ids).first(length), length);
    for (const int64_t n : {0, 17, 40}) {
      lm::Hooks hooks;
      hooks.add(fmt::format("blocks.{}.mlp.hook_post", model->config.layers - 1),
                [&](std::string_view, const torch::Tensor& value) {
                  auto held = value.clone();
                  held.select(-1, n).fill_(stream.activations.select(1, n).mean());
                  return held;
                });
      const auto log_p =
          torch::log_softmax(model->forward(input, {.hooks = &hooks})[0], 1).to(torch::kDouble);
      const auto fast = ablation.run(n, Freeze::nothing);
      for (int64_t t = 0; t < std::ssize(fast); ++t) {
        const auto at = log_p[begins + 3 + t];
        const auto target = stream.targets[t].item<int64_t>();
        EXPECT_NEAR(fast[t].loss, -at[target].item<double>(), 1e-5) << json["model_type"];
        EXPECT_NEAR(fast[t].entropy, -(at.exp() * at).sum().item<double>(), 1e-5);
      }
    }
  }
}

TEST(Ablation, OfANullDirectionActsThroughTheScaleAlone) {
  torch::manual_seed(4);
  auto r = random_readout(false);
  r.value[5].zero_();
  r.value[5][1] = 7;
  const Ablation ablation(r, random_stream());
  const auto direct = ablation.run(5, Freeze::scale), total = ablation.run(5, Freeze::nothing);
  double most = 0;
  for (size_t t = 0; t < direct.size(); ++t) {
    EXPECT_NEAR(direct[t].loss, ablation.before()[t].loss, 1e-6);
    EXPECT_EQ(total[t].top, ablation.before()[t].top);
    most = std::max(most, std::fabs(total[t].loss - direct[t].loss));
  }
  EXPECT_GT(most, 0.01);
  EXPECT_NEAR(effect_of(ablation, 5).norm_share(), 1, 1e-4);
}

TEST(NullSpace, IsWhatNoTokenReads) {
  torch::manual_seed(5);
  const auto r = random_readout(false);
  const auto space = null_space(r);
  EXPECT_EQ(space.basis.size(1), 2);
  auto rows = torch::zeros({2, 16});
  rows[0][1] = 3, rows[1][9] = 2;
  const auto share = null_share(r, space, rows);
  EXPECT_NEAR(share[0].item<double>(), 1, 1e-6);
  EXPECT_NEAR(share[1].item<double>(), 0, 1e-6);
}

TEST(Ablation, RefusesWhatDoesNotFit) {
  auto r = random_readout(false);
  auto s = random_stream();
  s.stream = torch::randn({20, 15});
  EXPECT_THROW(Ablation(r, s), Error);
  r.cap = 30;
  EXPECT_THROW(Ablation(r, random_stream()), Error);
  EXPECT_THROW(Ablation(random_readout(false), random_stream()).run(24, Freeze::nothing), Error);
}

}  // namespace
}  // namespace cajal::atlas
