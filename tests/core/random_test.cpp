#include "cajal/core/random.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>
#include <vector>

namespace {

using cajal::Random;

TEST(Random, GivesTheSameNumbersOnEveryMachine) {
  Random random(42);
  EXPECT_EQ(random.next(), 2303456275738999573u);
  EXPECT_EQ(random.next(), 5438210688795116325u);
  EXPECT_EQ(Random(42, 1).next(), 6361458328680127711u);
  EXPECT_EQ(Random(0).next(), 18110106563157542208u);
}

TEST(Random, StreamsAndSeedsDiffer) {
  std::set<uint64_t> first;
  for (uint64_t seed = 0; seed < 30; ++seed)
    for (uint64_t stream = 0; stream < 30; ++stream) first.insert(Random(seed, stream).next());
  EXPECT_EQ(first.size(), 900u);
}

TEST(Random, UniformNumbersFillTheirRange) {
  Random random(1);
  double sum = 0, low = 1, high = 0;
  for (int i = 0; i < 10'000; ++i) {
    const double x = random.uniform();
    sum += x, low = std::min(low, x), high = std::max(high, x);
  }
  EXPECT_GE(low, 0);
  EXPECT_LT(high, 1);
  EXPECT_LT(low, 0.001);
  EXPECT_GT(high, 0.999);
  EXPECT_NEAR(sum / 10'000, 0.5, 0.015);  // 5 standard errors
}

TEST(Random, NormalNumbersHaveMeanZeroAndVarianceOne) {
  Random random(2);
  double sum = 0, squares = 0;
  for (int i = 0; i < 10'000; ++i) {
    const double x = random.normal();
    sum += x, squares += x * x;
  }
  EXPECT_NEAR(sum / 10'000, 0, 0.05);
  EXPECT_NEAR(squares / 10'000, 1, 0.08);
}

TEST(Random, BelowReachesEveryValueAndNoOther) {
  Random random(3);
  std::vector<int> hits(7);
  for (int i = 0; i < 7'000; ++i) ++hits.at(random.below(7));
  for (const int count : hits) EXPECT_NEAR(count, 1000, 150);
  EXPECT_EQ(random.below(1), 0u);
}

}  // namespace
