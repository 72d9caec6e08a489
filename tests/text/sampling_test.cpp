#include "cajal/text/sampling.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "cajal/core/error.h"

namespace {

using cajal::text::Sampler;
using cajal::text::SamplingOptions;

std::vector<double> shares(const SamplingOptions& options, const std::vector<float>& logits) {
  Sampler sampler(options);
  std::vector<double> share(logits.size());
  for (int i = 0; i < 20000; ++i) ++share[static_cast<size_t>(sampler(logits))];
  for (auto& part : share) part /= 20000;
  return share;
}

TEST(Sampling, TakesTheLowestOfEqualLogitsAtTemperatureZero) {
  EXPECT_EQ(Sampler({})(std::vector<float>{1, 3, 3, 2}), 1);
}

TEST(Sampling, DrawsWithTheProbabilitiesOfTheSoftmax) {
  const std::vector<float> logits = {0, std::log(2.f), std::log(5.f)};
  const auto share = shares({.temperature = 1, .seed = 1}, logits);
  EXPECT_NEAR(share[0], 1 / 8.0, 0.01);
  EXPECT_NEAR(share[2], 5 / 8.0, 0.01);
  const auto sharp = shares({.temperature = 0.5, .seed = 1}, logits);
  EXPECT_NEAR(sharp[2], 25 / 30.0, 0.01);
}

TEST(Sampling, KeepsTheTopKAndRenormalises) {
  const auto share = shares({.temperature = 1, .top_k = 2}, {0, std::log(2.f), std::log(6.f)});
  EXPECT_EQ(share[0], 0);
  EXPECT_NEAR(share[1], 0.25, 0.01);
}

TEST(Sampling, KeepsTheFewestTokensThatReachTopP) {
  const std::vector<float> logits = {std::log(1.f), std::log(6.f), std::log(3.f)};
  EXPECT_EQ(shares({.temperature = 1, .top_p = 0.6}, logits)[1], 1);  // .6 is reached by one
  const auto share = shares({.temperature = 1, .top_p = 0.61}, logits);
  EXPECT_EQ(share[0], 0);
  EXPECT_NEAR(share[1], 2 / 3.0, 0.01);
}

TEST(Sampling, RepeatsItselfFromTheSameSeed) {
  const std::vector<float> logits(50, 0.f);
  Sampler a({.temperature = 1, .seed = 5}), b({.temperature = 1, .seed = 5});
  for (int i = 0; i < 100; ++i) EXPECT_EQ(a(logits), b(logits));
}

TEST(Sampling, NeverDrawsWhatIsImpossible) {
  const float never = -std::numeric_limits<float>::infinity();
  EXPECT_EQ(shares({.temperature = 2}, {never, 0, never})[1], 1);
}

TEST(Sampling, RefusesBrokenLogitsAndOptions) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float never = -std::numeric_limits<float>::infinity();
  EXPECT_THROW(Sampler({})(std::vector<float>{0, nan}), cajal::Error);
  EXPECT_THROW(Sampler({})(std::vector<float>{nan, 0}), cajal::Error);
  EXPECT_THROW(Sampler({})(std::vector<float>{never, never}), cajal::Error);
  EXPECT_THROW(Sampler({})(std::vector<float>{}), cajal::Error);
  EXPECT_THROW(Sampler({.temperature = -1}), cajal::Error);
  EXPECT_THROW(Sampler({.top_p = 0}), cajal::Error);
  EXPECT_THROW(Sampler({.top_k = -1}), cajal::Error);
}

}  // namespace
