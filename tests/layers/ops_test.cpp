#include "cajal/layers/ops.h"

#include <gtest/gtest.h>

#include "checks.h"
#include "gradcheck.h"

namespace cajal {
namespace {

using testing::difference;

using cajal::testing::gradient_error;
using ops::NormKind;

torch::Tensor naive_norm(const torch::Tensor& x, NormKind kind, const torch::Tensor& w,
                         const torch::Tensor& b, double epsilon) {
  auto y = kind == NormKind::layer ? x - x.mean(-1, true) : x;
  y = y / (y.square().mean(-1, true) + epsilon).sqrt();
  y = y * (kind == NormKind::rms_one_plus ? w + 1 : w);
  return b.defined() ? y + b : y;
}

class Norms : public ::testing::TestWithParam<NormKind> {};

TEST_P(Norms, EqualTheFormula) {
  torch::manual_seed(1);
  const auto x = torch::randn({3, 5, 16}) * 3 + 1, w = torch::randn(16), b = torch::randn(16);
  EXPECT_LE(difference(ops::norm(x, GetParam(), w, b, 1e-5), naive_norm(x, GetParam(), w, b, 1e-5)),
            1e-5);
}

TEST_P(Norms, ComputeHalvesInFp32) {
  torch::manual_seed(1);
  const auto x = (torch::randn({4, 512}) * 40).to(torch::kHalf), w = torch::randn(512);
  const auto y = ops::norm(x, GetParam(), w, {}, 1e-5);
  EXPECT_EQ(y.scalar_type(), torch::kHalf);
  EXPECT_LE(
      difference(y.to(torch::kFloat), naive_norm(x.to(torch::kFloat), GetParam(), w, {}, 1e-5)),
      5e-3);
}

TEST_P(Norms, HaveTheirOwnGradient) {
  torch::manual_seed(1);
  const auto x = torch::randn({2, 6}, torch::kDouble), delta = torch::randn({2, 6}, torch::kDouble);
  const auto w = torch::randn(6, torch::kDouble), b = torch::randn(6, torch::kDouble);
  const auto both = [&] {
    const auto [sum, normed] = ops::add_norm(x, delta, GetParam(), w, b, 1e-5);
    return torch::cat({sum, normed});
  };
  EXPECT_LE(gradient_error(both, {x, delta, w, b}), 1e-6);
}

INSTANTIATE_TEST_SUITE_P(Kinds, Norms,
                         ::testing::Values(NormKind::layer, NormKind::rms, NormKind::rms_one_plus));

TEST(Activations, TakeTheirBiasAndGate) {
  torch::manual_seed(1);
  const auto x = torch::randn({2, 6}, torch::kDouble), b = torch::randn(6, torch::kDouble);
  const auto up = torch::randn({2, 6}, torch::kDouble);
  EXPECT_LE(gradient_error([&] { return ops::bias_activate(x, b, Activation::gelu_tanh); }, {x, b}),
            1e-6);
  EXPECT_LE(gradient_error([&] { return ops::gated_activate(x, up, Activation::silu); }, {x, up}),
            1e-6);
  EXPECT_LE(difference(ops::gated_activate(x, up, Activation::silu), x * torch::sigmoid(x) * up),
            1e-12);
  EXPECT_LE(difference(ops::bias_activate(x, {}, Activation::relu), x.clamp_min(0)), 0);
}

TEST(CrossEntropy, IsTheMeanOverRowsThatCount) {
  torch::manual_seed(1);
  const auto logits = torch::randn({3, 5});
  const auto targets = torch::tensor({2, -100, 4});
  const auto p = torch::softmax(logits, -1);
  const auto expected = -(p[0][2].log() + p[2][4].log()) / 2;
  EXPECT_LE(difference(ops::cross_entropy(logits, targets), expected), 1e-6);
  EXPECT_EQ(ops::cross_entropy(logits.to(torch::kBFloat16), targets).scalar_type(), torch::kFloat);
}

TEST(CrossEntropy, RefusesShapesThatDoNotFit) {
  EXPECT_THROW(ops::cross_entropy(torch::zeros({3, 5}), torch::zeros({2}, torch::kLong)), Error);
}

}  // namespace
}  // namespace cajal
