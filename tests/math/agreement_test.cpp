#include "cajal/math/agreement.h"

#include <gtest/gtest.h>

#include "cajal/core/error.h"

namespace cajal::math {
namespace {

// Reference values by hand: of 10 items the raters agree on 7; row sums 4, 4, 2 and column sums
// 4, 5, 1.
const std::vector<int> kTruth = {0, 0, 0, 0, 1, 1, 1, 1, 2, 2};
const std::vector<int> kSaid = {0, 0, 0, 1, 1, 1, 1, 0, 2, 1};

TEST(Agreement, IsThatOfTheFormulasOnAFixedTable) {
  EXPECT_EQ(accuracy(kTruth, kSaid), 0.7);
  const double expected = 0.4 * 0.4 + 0.4 * 0.5 + 0.2 * 0.1;
  EXPECT_NEAR(kappa(kTruth, kSaid, 3), (0.7 - expected) / (1 - expected), 1e-12);
  EXPECT_NEAR(kappa(kTruth, kSaid, 3), 0.516129032258064516, 1e-12);
  EXPECT_NEAR(macro_f1(kTruth, kSaid, 3), (6.0 / 8 + 6.0 / 9 + 2.0 / 3) / 3, 1e-12);
}

TEST(Agreement, OfChanceIsZeroAndOfWholeAgreementOne) {
  EXPECT_NEAR(kappa(std::vector{0, 0, 1, 1}, std::vector{0, 1, 0, 1}, 2), 0, 1e-12);
  EXPECT_EQ(kappa(kTruth, kTruth, 3), 1);
  EXPECT_EQ(kappa(std::vector{1, 1}, std::vector{1, 1}, 2), 1);
}

TEST(Agreement, RefusesWhatDoesNotFit) {
  EXPECT_THROW(kappa(kTruth, std::vector{0}, 3), Error);
  EXPECT_THROW(kappa(kTruth, kSaid, 2), Error);
  EXPECT_THROW(accuracy({}, {}), Error);
}

TEST(Quantile, LiesBetweenTheSortedValues) {
  EXPECT_NEAR(quantile({4, 1, 3, 2}, 0.5), 2.5, 1e-12);
  EXPECT_NEAR(quantile({4, 1, 3, 2}, 0.025), 1.075, 1e-12);
  EXPECT_EQ(quantile({7}, 0.9), 7);
}

TEST(Bootstrap, IsThatOfTheSameDrawsTakenOneByOne) {
  const std::vector<double> values = {1, 2, 4, 8, 16};
  std::vector<double> means;
  const auto interval = bootstrap(
      5,
      [&](std::span<const int64_t> drawn) {
        double mean = 0;
        for (const auto i : drawn) mean += values[static_cast<size_t>(i)] / 5;
        means.push_back(mean);
        return mean;
      },
      400, 0.95, 3);
  EXPECT_NEAR(interval.low, quantile(means, 0.025), 1e-12);
  EXPECT_NEAR(interval.high, quantile(means, 0.975), 1e-12);
  EXPECT_LT(interval.low, 6.2);
  EXPECT_GT(interval.high, 6.2);
}

TEST(MeanInterval, IsStudents) {
  const auto interval = mean_interval(std::vector{1.0, 2.0, 3.0});  // mean 2, deviation 1, t 4.3027
  EXPECT_NEAR(interval.high - 2, 4.3027 / std::sqrt(3.0), 1e-4);
  EXPECT_TRUE(interval.overlaps({4.4, 9}));
  EXPECT_FALSE(interval.overlaps({4.6, 9}));
}

}  // namespace
}  // namespace cajal::math
