#include "cajal/layers/functional/functional.h"

#include <gtest/gtest.h>

#include <cmath>

#include "cajal/core/error.h"
#include "gradcheck.h"

namespace cajal {
namespace {

using torch::Tensor;

TEST(Basis, LegendreAreTheFirstPolynomials) {
  const auto phi = basis_matrix(Basis::legendre, 4, 5);  // at -1, -0.5, 0, 0.5, 1
  for (int64_t i = 0; i < 5; ++i) {
    const double x = -1 + 0.5 * static_cast<double>(i);
    const double expected[] = {1, x, (3 * x * x - 1) / 2, (5 * x * x * x - 3 * x) / 2};
    for (int64_t n = 0; n < 4; ++n) EXPECT_NEAR(phi[i][n].item<double>(), expected[n], 1e-12);
  }
}

TEST(Basis, FourierIsOrthonormalUnderTheTrapezoidRule) {
  const auto phi = basis_matrix(Basis::fourier, 7, 1000);
  const auto weights = trapezoid_weights(torch::linspace(0, 1, 1000, torch::kDouble));
  const auto gram = torch::matmul(phi.t(), weights.unsqueeze(1) * phi);
  EXPECT_LT((gram - torch::eye(7, torch::kDouble)).abs().max().item<double>(), 1e-5);
  // The plain mean of the official code counts both ends and is off by about 1.4 / points.
  const auto mean = torch::matmul(phi.t(), phi) / 1000;
  EXPECT_GT((mean - torch::eye(7, torch::kDouble)).abs().max().item<double>(), 1e-3);
}

TEST(Basis, FourierHasSineBeforeCosine) {
  const auto phi = basis_matrix(Basis::fourier, 5, 9);
  const double s = 1.0 / 8;
  const double expected[] = {1, M_SQRT2 * std::sin(2 * M_PI * s), M_SQRT2 * std::cos(2 * M_PI * s),
                             M_SQRT2 * std::sin(4 * M_PI * s), M_SQRT2 * std::cos(4 * M_PI * s)};
  for (int64_t n = 0; n < 5; ++n) EXPECT_NEAR(phi[1][n].item<double>(), expected[n], 1e-12);
}

TEST(Basis, SplinesArePositiveAndSumToOne) {
  const auto phi = basis_matrix(Basis::bspline, 9, 101);
  EXPECT_GE(phi.min().item<double>(), 0);
  EXPECT_LT((phi.sum(1) - 1).abs().max().item<double>(), 1e-12);
  EXPECT_NEAR(phi[0][0].item<double>(), 1, 1e-12);
  EXPECT_NEAR(phi[100][8].item<double>(), 1, 1e-12);
  EXPECT_THROW(basis_matrix(Basis::bspline, 3, 10), Error);
}

TEST(FunctionalDense, EqualsADoubleLoop) {
  torch::manual_seed(1);
  for (const bool pooling : {false, true}) {
    FunctionalDense layer(FunctionalDenseOptions{.points = 24,
                                                 .channels = 2,
                                                 .neurons = 5,
                                                 .basis = Basis::legendre,
                                                 .functions = 6,
                                                 .pooling = pooling});
    layer->to(torch::kDouble);
    const auto x = torch::randn({3, 24, 2}, torch::kDouble);
    const auto phi = basis_matrix(Basis::legendre, 6, 24);
    auto expected = torch::zeros({3, 24, 5}, torch::kDouble);
    for (int64_t t = 0; t < 24; ++t)
      for (int64_t k = 0; k < 5; ++k)
        for (int64_t c = 0; c < 2; ++c) {
          double w = 0;
          for (int64_t i = 0; i < 6; ++i)
            w += (phi[t][i] * layer->coefficients[i][c][k]).item<double>();
          expected.select(1, t).select(1, k).add_(w * x.select(1, t).select(1, c));
        }
    EXPECT_TRUE(
        torch::allclose(layer->forward(x), pooling ? expected.mean(1) : expected, 1e-6, 1e-9));
  }
}

TEST(FunctionalDense, PoolingOverTimesIsTheIntegral) {
  const std::vector<double> times = {0, 0.1, 0.4, 0.5, 1};
  FunctionalDense layer(
      FunctionalDenseOptions{.points = 5, .neurons = 1, .pooling = true, .times = times});
  const torch::NoGradGuard no_grad;
  layer->coefficients.fill_(1);  // the constant function
  const auto x = torch::tensor({0.0, 0.1, 0.4, 0.5, 1.0}).reshape({1, 5, 1}).to(torch::kFloat);
  EXPECT_NEAR(layer->forward(x).item<double>(), 0.5, 1e-6);  // integral of t
  EXPECT_THROW(
      FunctionalDense(FunctionalDenseOptions{.points = 3, .neurons = 1, .times = {0, 0.5, 0.5}}),
      Error);
}

TEST(FunctionalConvolution, EqualsTorchWithTheExpandedKernel) {
  torch::manual_seed(2);
  FunctionalConvolution layer(FunctionalConvolutionOptions{
      .points = 25, .channels = 3, .neurons = 4, .functions = 7, .law = "elu"});
  const auto x = torch::randn({2, 60, 3});
  const auto kernel = layer->weights().permute({2, 1, 0});
  const auto expected = torch::elu(torch::conv1d(x.transpose(1, 2), kernel)).transpose(1, 2);
  EXPECT_TRUE(torch::allclose(layer->forward(x), expected, 1e-6, 1e-6));
  EXPECT_EQ(layer->forward(x).size(1), 36);
}

TEST(FunctionalConvolution, PoolingComesBeforeTheLawUnlessAskedOtherwise) {
  for (const bool after : {false, true}) {
    FunctionalConvolution layer(FunctionalConvolutionOptions{.points = 5,
                                                             .neurons = 2,
                                                             .functions = 3,
                                                             .law = "tanh",
                                                             .pooling = true,
                                                             .pool_after = after});
    const auto x = torch::randn({2, 20, 1}) * 5;
    const auto open = torch::conv1d(x.transpose(1, 2), layer->weights().permute({2, 1, 0}));
    const auto expected = after ? torch::tanh(open).mean(2) : torch::tanh(open.mean(2));
    EXPECT_TRUE(torch::allclose(layer->forward(x), expected, 1e-5, 1e-6));
  }
}

TEST(FunctionalConvolution, SameKeepsTheLength) {
  for (const int64_t points : {4, 5}) {
    FunctionalConvolution layer(
        FunctionalConvolutionOptions{.points = points, .neurons = 2, .functions = 3, .same = true});
    EXPECT_EQ(layer->forward(torch::randn({1, 20, 1})).size(1), 20);
  }
}

TEST(FunctionalConvolution, GradientsAreThoseOfTheFormula) {
  for (const bool integral : {false, true}) {
    FunctionalConvolution layer(FunctionalConvolutionOptions{.points = 6,
                                                             .channels = 2,
                                                             .neurons = 2,
                                                             .basis = Basis::bspline,
                                                             .functions = 4,
                                                             .law = "elu",
                                                             .integral = integral,
                                                             .bias_functions = 1});
    layer->to(torch::kDouble);
    auto x = torch::randn({2, 12, 2}, torch::kDouble);
    auto inputs = layer->parameters();
    inputs.push_back(x);
    EXPECT_LT(testing::gradient_error([&] { return layer->forward(x); }, inputs), 1e-5);
  }
}

TEST(FunctionalConvolution, ASignalInsideShiftsWithoutChangingThePooledAnswer) {
  torch::manual_seed(3);
  FunctionalConvolution layer(FunctionalConvolutionOptions{.points = 9,
                                                           .neurons = 3,
                                                           .functions = 5,
                                                           .law = "elu",
                                                           .pooling = true,
                                                           .pool_after = true});
  auto x = torch::zeros({1, 64, 1});
  x.slice(1, 25, 35).copy_(torch::randn({1, 10, 1}));
  for (const int64_t shift : {-12, 1, 12})
    EXPECT_TRUE(
        torch::allclose(layer->forward(x), layer->forward(torch::roll(x, shift, 1)), 0, 1e-5));
}

TEST(FunctionalConvolution, MovesBetweenSamplingRates) {
  torch::manual_seed(4);
  FunctionalConvolution layer(
      FunctionalConvolutionOptions{.points = 33, .neurons = 2, .functions = 5, .integral = true});
  const auto curve = [](int64_t points) {
    const auto t = torch::linspace(0, 1, points);
    return (torch::sin(5 * t) + t).reshape({1, points, 1});
  };
  const auto coarse = layer->forward(curve(129));
  const auto fine = layer->at_rate(curve(257), 2);
  EXPECT_LT((coarse - fine.slice(1, 0, fine.size(1), 2)).abs().max().item<double>(), 0.02);
  EXPECT_EQ(fine.size(1), 2 * coarse.size(1) - 1);
}

TEST(FunctionalKernel, EqualsTheIntegralOfItsKernel) {
  FunctionalKernel layer(FunctionalKernelOptions{.points = 12,
                                                 .points_out = 7,
                                                 .channels = 2,
                                                 .neurons = 3,
                                                 .functions = 4,
                                                 .functions_out = 3});
  const auto in = basis_matrix(Basis::legendre, 4, 12).to(torch::kFloat);
  const auto out = basis_matrix(Basis::legendre, 3, 7).to(torch::kFloat);
  const auto kernel = torch::einsum("so,ti,oick->stck", {out, in, layer->coefficients});
  const auto x = torch::randn({2, 12, 2});
  const auto expected = torch::einsum("stck,btc->bsk", {kernel, x}) / 12;
  EXPECT_TRUE(torch::allclose(layer->forward(x), expected, 1e-5, 1e-6));
}

TEST(Roughness, IsTheQuadraticFormOfSecondDerivatives) {
  // sqrt2 sin 2πs: integral of (4π² √2 sin)² over [0, 1] = 16 π⁴
  const auto r = roughness_matrix(Basis::fourier, 3);
  EXPECT_NEAR(r[1][1].item<double>(), 16 * std::pow(M_PI, 4), 1e-2 * 16 * std::pow(M_PI, 4));
  EXPECT_NEAR(r[1][2].item<double>(), 0, 5);
  auto a = torch::zeros({3, 1, 1}, torch::kDouble);
  a[1][0][0] = 2;
  EXPECT_NEAR(roughness_penalty(Basis::fourier, a, 0.5).item<double>(), 2 * r[1][1].item<double>(),
              1e-6);
}

TEST(NormaliseCurves, GivesMeanZeroAndVarianceOneOverTime) {
  const auto y = normalise_curves(torch::rand({3, 50, 2}) * 7 + 3);
  EXPECT_LT(y.mean(1).abs().max().item<double>(), 1e-4);
  EXPECT_LT((y.square().mean(1) - 1).abs().max().item<double>(), 1e-4);
}

TEST(Functional, RefusesWrongCurvesAndLaws) {
  FunctionalDense layer(FunctionalDenseOptions{.points = 10, .neurons = 2});
  EXPECT_THROW(layer->forward(torch::randn({2, 9, 1})), Error);
  EXPECT_THROW(FunctionalDense(FunctionalDenseOptions{.points = 10, .neurons = 2, .law = "elo"}),
               Error);
  FunctionalConvolution conv(FunctionalConvolutionOptions{.points = 10, .neurons = 2});
  EXPECT_THROW(conv->forward(torch::randn({2, 9, 1})), Error);
}

}  // namespace
}  // namespace cajal
