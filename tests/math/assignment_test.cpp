#include "cajal/math/assignment.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "cajal/core/error.h"
#include "cajal/core/random.h"
#include "cajal/math/similarity.h"
#include "cajal/math/translation.h"

namespace cajal::math {
namespace {

TEST(Assignment, FindsTheLeastCostOfAllPermutations) {
  Random random(4);
  for (int trial = 0; trial < 20; ++trial) {
    std::vector<float> cost(36);
    for (auto& value : cost) value = static_cast<float>(random.normal());
    const auto total = [&](const std::vector<int64_t>& columns) {
      double sum = 0;
      for (size_t row = 0; row < 6; ++row)
        sum += static_cast<double>(cost[row * 6 + static_cast<size_t>(columns[row])]);
      return sum;
    };
    std::vector<int64_t> order(6);
    std::iota(order.begin(), order.end(), 0);
    double best = INFINITY;
    do best = std::min(best, total(order));
    while (std::next_permutation(order.begin(), order.end()));
    EXPECT_NEAR(total(assign(cost, 6, 6)), best, 1e-5);
  }
}

TEST(Assignment, LeavesColumnsOverWhereThereAreMore) {
  const std::vector<float> cost = {5, 1, 9, 1, 2, 0};
  EXPECT_EQ(assign(cost, 2, 3), (std::vector<int64_t>{1, 2}));
}

TEST(Assignment, RefusesCostsThatAreNoNumbers) {
  EXPECT_THROW(assign(std::vector<float>{NAN}, 1, 1), Error);
  EXPECT_THROW(assign(std::vector<float>{1, 2}, 2, 1), Error);
}

TEST(LinearCka, EqualsTheHsicOfLinearKernels) {
  torch::manual_seed(1);
  const auto x = torch::randn({20, 4}, torch::kDouble), y = torch::randn({20, 7}, torch::kDouble);
  const auto h = torch::eye(20, torch::kDouble) - 1.0 / 20;
  const auto hsic = [&](const torch::Tensor& a, const torch::Tensor& b) {
    return (a.mm(a.t()).mm(h) * b.mm(b.t()).mm(h).t()).sum().item<double>();
  };
  EXPECT_NEAR(linear_cka(x, y), hsic(x, y) / std::sqrt(hsic(x, x) * hsic(y, y)), 1e-9);
}

TEST(LinearCka, IsOneForARotation) {
  torch::manual_seed(1);
  const auto x = torch::randn({30, 5}, torch::kDouble);
  const auto [q, r] = torch::linalg_qr(torch::randn({5, 5}, torch::kDouble), "reduced");
  EXPECT_NEAR(linear_cka(x, x.mm(q)), 1, 1e-9);
  EXPECT_NEAR(neighbourhood_similarity(x, x.mm(q)), 1, 1e-6);
  EXPECT_THROW(linear_cka(x, x.narrow(0, 0, 9)), Error);
}

TEST(Bleu, MatchesACorpusCountedByHand) {
  // Precisions 5/6, 3/4... of "a b c d e x" and "a b c d" with equal lengths.
  const std::vector<std::vector<int32_t>> out = {{1, 2, 3, 4, 5, 9}}, ref = {{1, 2, 3, 4, 5, 6}};
  EXPECT_NEAR(bleu(out, ref), 100 * std::pow(5.0 / 6 * 4.0 / 5 * 3.0 / 4 * 2.0 / 3, 0.25), 1e-9);
  EXPECT_NEAR(bleu(ref, ref), 100, 1e-9);
}

TEST(Bleu, ShortOutputsPayTheBrevityPenalty) {
  EXPECT_NEAR(bleu({{1, 2, 3, 4}}, {{1, 2, 3, 4, 5}}), 100 * std::exp(1 - 5.0 / 4), 1e-9);
}

TEST(Chrf, IsFullForEqualTextsAndNothingForOthers) {
  EXPECT_NEAR(chrf({"the cat sat"}, {"the cat sat"}), 100, 1e-9);
  EXPECT_EQ(chrf({"xyz"}, {"abc"}), 0);
  EXPECT_THROW(chrf({}, {}), Error);
}

}  // namespace
}  // namespace cajal::math
