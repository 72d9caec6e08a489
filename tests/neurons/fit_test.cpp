#include "cajal/neurons/fit.h"

#include <gtest/gtest.h>

#include "cajal/core/error.h"
#include "cajal/neurons/elementwise.h"

namespace {
using namespace cajal;

TEST(FitPau, OfLeakyReluIsNoWorseThanThePublishedStart) {
  const auto f = [](const torch::Tensor& x) { return torch::leaky_relu(x, 0.01); };
  const auto fit = fit_pau(f);
  const auto x = torch::linspace(-3, 3, 601, torch::kDouble);
  const Elementwise start(parse_elementwise("pau"));
  const torch::NoGradGuard no_grad;
  const auto gap = (start->forward(x) - f(x)).square().mean().sqrt().item<double>();
  EXPECT_LE(fit.rms, gap + 1e-9);
}

TEST(FitPau, OfARationalFunctionIsExact) {
  const auto fit = fit_pau([](const torch::Tensor& x) { return x / (1 + x.square()); });
  EXPECT_LE(fit.largest_gap, 1e-6);
}

TEST(FitPau, ItsTextIsALawWithThatGap) {
  const auto f = [](const torch::Tensor& x) { return torch::tanh(x); };
  const auto fit = fit_pau(f);
  EXPECT_LE(fit.largest_gap, 1e-3);
  const Elementwise law(parse_elementwise(fit.text()));
  const torch::NoGradGuard no_grad;
  const auto x = torch::linspace(-3, 3, 601, torch::kDouble);
  EXPECT_NEAR((law->forward(x) - f(x)).abs().max().item<double>(), fit.largest_gap, 1e-5);
}

TEST(FitPau, RefusesAFunctionThatIsNotFinite) {
  EXPECT_THROW(fit_pau([](const torch::Tensor& x) { return torch::log(x); }), Error);
  EXPECT_THROW(fit_pau([](const torch::Tensor& x) { return x; }, 0), Error);
}

}  // namespace
