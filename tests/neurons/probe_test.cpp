#include "cajal/neurons/probe.h"

#include <gtest/gtest.h>

#include <cmath>

#include "cajal/neurons/elementwise.h"

namespace cajal {
namespace {

Properties of(const char* text) {
  const Elementwise law(parse_elementwise(text));
  return probe([&](const torch::Tensor& x) { return law->forward(x); });
}

void expect_minimum(const char* text, double at, double value) {
  const auto p = of(text);
  EXPECT_NEAR(p.minimum_at, at, 1e-4) << text;
  EXPECT_NEAR(p.minimum, value, 1e-4) << text;
}

TEST(Probe, FindsThePublishedMinimaOfTheSmoothRectifiers) {
  expect_minimum("mish", -1.1924, -0.3088);
  expect_minimum("swish", -1.2785, -0.2785);
  expect_minimum("gelu", -0.7518, -0.1700);
}

TEST(Probe, LishtIsEvenAndNowhereNegative) {
  const auto p = of("lisht");
  EXPECT_TRUE(p.even);
  EXPECT_FALSE(p.odd);
  EXPECT_GE(p.minimum, 0);
}

TEST(Probe, SeluKeepsMeanAndVarianceOfNormalNumbers) {
  const auto p = of("selu");
  EXPECT_NEAR(p.variance, 1, 0.01);
  EXPECT_NEAR(p.mean, 0, 0.01);
  EXPECT_NEAR(p.variance_by_depth.back(), 1, 0.01);  // a fixed point, reached from 0.5
}

TEST(Probe, TellsRangesFromWhatGrows) {
  EXPECT_TRUE(of("sigmoid").bounded_above && of("sigmoid").bounded_below);
  EXPECT_TRUE(of("relu").bounded_below);
  EXPECT_FALSE(of("relu").bounded_above);
  EXPECT_FALSE(of("leaky_relu").bounded_below);
  EXPECT_FALSE(of("sine").monotone == Monotone::increasing);
}

TEST(Probe, TellsKinksFromBendsFromSmooth) {
  const auto relu = of("relu"), elu = of("elu"), celu2 = of("celu:a=2");
  ASSERT_EQ(relu.kinks.size(), 1u);
  EXPECT_NEAR(relu.kinks[0].x, 0, 1e-3);
  EXPECT_NEAR(relu.kinks[0].jump, 1, 1e-6);
  EXPECT_TRUE(elu.kinks.empty());
  EXPECT_EQ(elu.bends.size(), 1u);
  EXPECT_EQ(celu2.bends.size(), 1u);
  EXPECT_EQ(of("hard_tanh").kinks.size(), 2u);
  EXPECT_EQ(smoothness(of("mish")), "C2 or more");
  EXPECT_EQ(smoothness(of("tanh")), "C2 or more");
}

TEST(Probe, MonotoneTurnsAndSaturationAreThoseOfTheCurve) {
  EXPECT_EQ(of("tanh").monotone, Monotone::increasing);
  EXPECT_EQ(of("tanh").turns, 0);
  EXPECT_EQ(of("swish").turns, 1);
  EXPECT_EQ(of("gelu").monotone, Monotone::no);
  EXPECT_NEAR(of("relu").saturation, 0.5, 1e-3);
  EXPECT_GT(of("tanh").saturation, 0.75);
  EXPECT_NEAR(of("softplus").lipschitz, 1, 1e-6);
  EXPECT_TRUE(of("tanh").odd && of("tanh").zero_centred);
  EXPECT_FALSE(of("sigmoid").zero_centred);
}

TEST(Probe, TheGainKeepsTheSecondMoment) {
  EXPECT_NEAR(of("relu").gain, std::sqrt(2), 1e-3);  // He et al.
}

}  // namespace
}  // namespace cajal
