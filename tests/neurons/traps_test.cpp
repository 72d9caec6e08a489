#include <gtest/gtest.h>

#include <cmath>

#include "cajal/core/error.h"
#include "cajal/neurons/elementwise.h"

// What the code published with the activation survey computes in place of its formulas, and what
// is computed here.
namespace {
using namespace cajal;

double at(const char* text, double x, int64_t channels = 0) {
  const torch::NoGradGuard no_grad;
  const Elementwise law(parse_elementwise(text, channels));
  return law->forward(torch::full({1, std::max<int64_t>(channels, 1), 1}, x, torch::kDouble))
      .flatten()[0]
      .item<double>();
}

// Its VGG files pass the number of channels as first argument: a slope, α or β of 64 to 512.
TEST(ActivationTraps, ANumberOfChannelsIsNeitherSlopeNorAlphaNorBeta) {
  constexpr int64_t kChannels = 64;
  EXPECT_NEAR(at("leaky_relu", -2, kChannels), -0.02, 1e-9);
  EXPECT_NEAR(at("elu", -2, kChannels), std::expm1(-2), 1e-9);
  EXPECT_NEAR(at("celu", -2, kChannels), std::expm1(-2), 1e-9);
  EXPECT_NEAR(at("softplus", 0.5, kChannels), std::log1p(std::exp(0.5)), 1e-9);
}

// Its GoogLeNet file passes `True` as slope, which is 1: an identity.
TEST(ActivationTraps, LeakyReluTakesNoTruthValueForItsSlope) {
  EXPECT_THROW(parse_elementwise("leaky_relu:slope=True"), Error);
  EXPECT_NE(at("leaky_relu", -2), -2);
}

// Its PDELU zeroes the input in place before it uses it.
TEST(ActivationTraps, PdeluAnswersBelowZeroAndLeavesItsInputAlone) {
  EXPECT_NEAR(at("pdelu", -2), std::pow(0.8, 10) - 1, 1e-7);  // t = 0.9 in fp32
  const auto x = torch::linspace(-3, 3, 7);
  const auto copy = x.clone();
  Elementwise(parse_elementwise("pdelu"))->forward(x);
  EXPECT_TRUE(torch::equal(x, copy));
}

// Its PAU takes |b_k x^k| term by term where the text has the absolute value of the sum.
TEST(ActivationTraps, PauHasTheAbsoluteValueOfTheSumAndPauTermsThatOfEachTerm) {
  // P = 1, Q's terms are x and x²: at -1 they cancel in the sum and add up term by term.
  const char* start = "a0=1,a1=0,a2=0,a3=0,a4=0,a5=0,b1=1,b2=1,b3=0,b4=0";
  EXPECT_NEAR(at((std::string("pau:") + start).c_str(), -1), 1.0, 1e-9);
  EXPECT_NEAR(at((std::string("pau_terms:") + start).c_str(), -1), 1.0 / 3, 1e-9);
}

}  // namespace
