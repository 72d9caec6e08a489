#include "cajal/math/ranks.h"

#include <gtest/gtest.h>

#include <cmath>

#include "cajal/core/error.h"
#include "cajal/math/quadrature.h"

namespace cajal::math {
namespace {

TEST(Ranks, ShareTheMeanOfEqualValues) {
  EXPECT_EQ(ranks(std::vector<double>{3, 1, 3, 2}), (std::vector<double>{2.5, 0, 2.5, 1}));
}

TEST(Spearman, SeesOnlyTheOrder) {
  const std::vector<double> x{1, 2, 3, 4, 5}, y{1, 8, 27, 64, 125}, down{5, 4, 3, 2, 1};
  EXPECT_NEAR(spearman(x, y), 1, 1e-12);
  EXPECT_NEAR(spearman(x, down), -1, 1e-12);
  EXPECT_LT(pearson(x, y), 0.97);
  // 1 - 6 Σ d² / (n (n² - 1)) without ties.
  EXPECT_NEAR(spearman(x, std::vector<double>{2, 1, 4, 3, 5}), 1 - 6 * 4.0 / (5 * 24), 1e-12);
}

TEST(FitLine, FindsTheLeastSquaresLine) {
  const auto line = fit_line(std::vector<double>{0, 1, 2}, std::vector<double>{1, 3, 8});
  EXPECT_NEAR(line.slope, 3.5, 1e-12);
  EXPECT_NEAR(line.intercept, 0.5, 1e-12);
}

TEST(Pearson, RefusesSamplesOfOtherLengths) {
  EXPECT_THROW(pearson(std::vector<double>{1, 2}, std::vector<double>{1}), Error);
}

TEST(GaussLegendre, IsExactForPolynomialsBelowTwiceItsNodes) {
  for (const int count : {1, 2, 5, 16}) {
    const auto rule = gauss_legendre(count);
    for (int power = 0; power < 2 * count; ++power) {
      double sum = 0;
      for (size_t k = 0; k < rule.nodes.size(); ++k)
        sum += rule.weights[k] * std::pow(rule.nodes[k], power);
      EXPECT_NEAR(sum, 1.0 / (power + 1), 1e-13) << count << " nodes, power " << power;
    }
  }
}

}  // namespace
TEST(MeanRanks, CountFromTheBestAndShareTies) {
  // Block 0: higher is better; block 1: lower is.
  const auto r = math::mean_ranks({{0.9, 3}, {0.8, 1}, {0.8, 2}}, {true, false});
  EXPECT_DOUBLE_EQ(r[0], (1 + 3) / 2.0);
  EXPECT_DOUBLE_EQ(r[1], (2.5 + 1) / 2);
  EXPECT_DOUBLE_EQ(r[2], (2.5 + 2) / 2);
  EXPECT_THROW(math::mean_ranks({{1, 2}, {1}}, {true, true}), Error);
}

TEST(MannWhitney, CountsThePairsInWhichTheFirstSampleIsLarger) {
  // U = 8 of 9 pairs; mean 4.5, variance 9 * 7 / 12: z = 1.5275.
  EXPECT_NEAR(math::mann_whitney(std::vector<double>{2, 4, 5}, std::vector<double>{0, 1, 3}),
              0.0633, 1e-4);
  EXPECT_NEAR(math::mann_whitney(std::vector<double>{1, 1}, std::vector<double>{1, 1}), 0.5, 1e-12);
  EXPECT_THROW(math::mann_whitney({}, std::vector<double>{1}), Error);
}

// Demšar 2006: 4 methods over 14 data sets, 2.569 sqrt(4 * 5 / (6 * 14)) = 1.25.
TEST(CriticalRankDifference, IsThatOfDemsarsExample) {
  EXPECT_NEAR(math::critical_rank_difference(4, 14), 1.25, 0.005);
  EXPECT_THROW(math::critical_rank_difference(1, 14), Error);
}

}  // namespace cajal::math
