#include "cajal/neurons/adaptive.h"

#include <gtest/gtest.h>

#include "cajal/neurons/stochastic.h"
#include "cajal/neurons/widening.h"
#include "gradcheck.h"

namespace cajal {
namespace {

const auto kGrid = torch::linspace(-5.03, 5.03, 61, torch::kDouble);

TEST(AbRelu, TheMeanIsOverTheWholeTensorOrOverEachSample) {
  const auto x = torch::randn({4, 3, 2});
  EXPECT_TRUE(torch::allclose(AbRelu(AbReluOptions{})->forward(x), torch::relu(x - x.mean())));
  EXPECT_TRUE(torch::allclose(AbRelu(AbReluOptions{MeanOf::sample})->forward(x),
                              torch::relu(x - x.mean({1, 2}, true))));
}

TEST(Apl, IsItsFormula) {
  Apl apl(AplOptions{3});
  apl->to(torch::kDouble);
  const torch::NoGradGuard no_grad;
  apl->slope.copy_(torch::tensor({0.3, -0.2, 0.1}));
  auto expected = torch::relu(kGrid);
  for (int i = 0; i < 3; ++i)
    expected = expected + apl->slope[i] * torch::clamp_min(-kGrid + apl->knot[i], 0);
  EXPECT_TRUE(torch::allclose(apl->forward(kGrid), expected));
}

TEST(Slaf, StartsAsTheIdentityAndIsAPolynomial) {
  PolynomialActivation slaf(PolynomialOptions{3});
  EXPECT_TRUE(torch::allclose(slaf->forward(kGrid), kGrid));
  const torch::NoGradGuard no_grad;
  slaf->coefficient.copy_(torch::tensor({1.0, 2.0, 3.0, 4.0}));
  EXPECT_TRUE(
      torch::allclose(slaf->forward(kGrid), 1 + 2 * kGrid + 3 * kGrid.square() + 4 * kGrid.pow(3)));
}

TEST(TableActivation, EveryKindStartsAsItsLawInsideTheTable) {
  for (const auto kind : {TableKind::bins, TableKind::linear, TableKind::cubic}) {
    TableActivation table(TableOptions{.kind = kind, .pieces = 64, .like = "tanh"});
    table->to(torch::kDouble);
    const auto inside = kGrid.clamp(-4, 4);
    const double bound = kind == TableKind::cubic ? 3e-4 : 2e-3;
    EXPECT_LT((table->forward(inside) - torch::tanh(inside)).abs().max().item<double>(), bound);
  }
}

TEST(TableActivation, GoesOnAsALineOutside) {
  for (const auto kind : {TableKind::bins, TableKind::linear, TableKind::cubic}) {
    TableActivation table(TableOptions{.kind = kind, .like = "leaky_relu:slope=0.2"});
    const auto far = torch::tensor({-9.0, 9.0});
    EXPECT_TRUE(torch::allclose(table->forward(far), torch::tensor({-1.8, 9.0}), 1e-5, 1e-5));
  }
}

TEST(TableActivation, TheGradientIsThatOfTheTable) {
  for (const auto kind : {TableKind::bins, TableKind::linear, TableKind::cubic}) {
    TableActivation table(TableOptions{.kind = kind, .pieces = 8, .like = "mish"});
    table->to(torch::kDouble);
    std::vector<torch::Tensor> inputs = {kGrid + 0.013};  // off the knots
    for (const auto& parameter : table->parameters()) inputs.push_back(parameter);
    EXPECT_LT(testing::gradient_error([&] { return table->forward(inputs[0]); }, inputs), 1e-6);
  }
}

TEST(KernelActivation, StartsCloseToItsLaw) {
  KernelActivation kernel(KernelActivationOptions{});
  const auto x = torch::linspace(-2.5, 2.5, 21);
  EXPECT_LT((kernel->forward(x) - torch::elu(x)).abs().max().item<double>(), 0.02);
}

TEST(BlendedActivation, IsTheWeightedSumOfItsLaws) {
  BlendedActivation blend(BlendOptions{{"relu", "tanh"}});
  EXPECT_TRUE(torch::allclose(blend->forward(kGrid), (torch::relu(kGrid) + torch::tanh(kGrid)) / 2,
                              1e-6, 1e-7));
}

TEST(VariableActivation, TakesALawWithParameters) {
  VariableActivation vaf(VariableActivationOptions{.law = "leaky_relu"});
  vaf->to(torch::kDouble);
  const auto expected =
      (vaf->out * torch::leaky_relu(kGrid.unsqueeze(1) * vaf->in + vaf->bias)).sum(1);
  EXPECT_TRUE(torch::allclose(vaf->forward(kGrid), expected));
}

TEST(Stochastic, InEvaluationNothingIsDrawn) {
  RandomLeakyRelu rrelu{RandomSlopeOptions{}};
  rrelu->eval();
  EXPECT_TRUE(torch::allclose(rrelu->forward(kGrid), torch::leaky_relu(kGrid, 11.0 / 48)));
  ElasticElu eelu{ElasticEluOptions{}};
  eelu->eval();
  EXPECT_TRUE(torch::allclose(eelu->forward(kGrid), torch::elu(kGrid)));
}

TEST(Stochastic, InTrainingTheMeanIsThatOfEvaluation) {
  torch::manual_seed(1);
  const auto x = torch::tensor({-2.0, -0.5, 0.5, 2.0}).expand({200'000, 4}).contiguous();
  const auto expect = [&](auto module, const char* name) {
    const auto drawn = module->forward(x).mean(0);
    EXPECT_GT(module->forward(x).std(0).max().template item<double>(), 0.01) << name;
    module->eval();
    EXPECT_TRUE(torch::allclose(drawn, module->forward(x)[0], 0, 0.01)) << name;
  };
  expect(RandomLeakyRelu(RandomSlopeOptions{}), "rrelu");
  expect(ElasticRelu(ElasticReluOptions{}), "erelu");
  expect(ElasticElu(ElasticEluOptions{}), "eelu");
  expect(NoisyHardTanh(NoisyHardTanhOptions{}), "noisy_hard_tanh");
  expect(ProbabilisticRelu(ProbabilisticOptions{}), "act_s");
}

TEST(Widening, ChannelsComeOutAsTheFormulaSays) {
  const auto x = torch::randn({2, 4, 3});
  EXPECT_TRUE(torch::equal(ConcatenatedRelu(ConcatenatedReluOptions{})->forward(x),
                           torch::cat({torch::relu(x), torch::relu(-x)}, 1)));
  const auto a = x.slice(1, 0, 2), b = x.slice(1, 2, 4);
  EXPECT_TRUE(
      torch::equal(DualRelu(DualReluOptions{})->forward(x), torch::relu(a) - torch::relu(b)));
  EXPECT_TRUE(torch::equal(Maxout(MaxoutOptions{2})->forward(x),
                           torch::stack({torch::maximum(x.select(1, 0), x.select(1, 1)),
                                         torch::maximum(x.select(1, 2), x.select(1, 3))},
                                        1)));
  EXPECT_TRUE(torch::allclose(GatedUnit(GatedUnitOptions{"silu"})->forward(x), a * torch::silu(b)));
  EXPECT_THROW(GatedUnit(GatedUnitOptions{})->forward(torch::randn({2, 3})), Error);
}

}  // namespace
}  // namespace cajal
