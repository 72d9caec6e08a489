#include "cajal/math/modularity.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "cajal/core/error.h"

namespace cajal::math {
namespace {

// Two triangles with an edge between them.
const Edges kTriangles = {{0, 1}, {1, 2}, {0, 2}, {3, 4}, {4, 5}, {3, 5}, {2, 3}};

TEST(Modularity, OfTwoTrianglesIsTheTextbookFigure) {
  const std::vector<int32_t> groups{0, 0, 0, 1, 1, 1}, one{0, 0, 0, 0, 0, 0};
  EXPECT_NEAR(modularity(kTriangles, groups), 6.0 / 7 - 0.5, 1e-12);
  EXPECT_NEAR(modularity(kTriangles, one), 0, 1e-12);
}

TEST(Modularity, RefusesBadGraphs) {
  const std::vector<int32_t> groups{0, 0};
  EXPECT_THROW(modularity({}, groups), Error);
  EXPECT_THROW(modularity({{0, 2}}, groups), Error);
  EXPECT_THROW(modularity({{1, 1}}, groups), Error);
}

TEST(Rewired, KeepsDegreesAndMakesNoEdgeTwice) {
  Random random(3);
  Edges edges;
  for (int32_t a = 0; a < 40; ++a)
    for (int32_t b = a + 1; b < 40; ++b)
      if (random.uniform() < 0.15) edges.emplace_back(a, b);
  const auto other = rewired(edges, 40, 10, random);
  std::vector<int> before(40), after(40);
  for (const auto& [a, b] : edges)
    ++before[static_cast<size_t>(a)], ++before[static_cast<size_t>(b)];
  Edges sorted;
  for (const auto& [a, b] : other) {
    ++after[static_cast<size_t>(a)], ++after[static_cast<size_t>(b)];
    EXPECT_NE(a, b);
    sorted.emplace_back(std::min(a, b), std::max(a, b));
  }
  std::sort(sorted.begin(), sorted.end());
  EXPECT_EQ(std::adjacent_find(sorted.begin(), sorted.end()), sorted.end());
  EXPECT_EQ(before, after);
  EXPECT_NE(sorted, edges);
}

TEST(AdjustedRand, IsOneForTheSamePartitionUnderOtherNames) {
  const std::vector<int32_t> a{0, 0, 1, 1, 2, 2}, b{5, 5, 3, 3, 9, 9};
  EXPECT_NEAR(adjusted_rand(a, b), 1, 1e-12);
  // scikit-learn: adjusted_rand_score([0, 0, 1, 1], [0, 0, 1, 2]) = 0.571428...
  EXPECT_NEAR(adjusted_rand(std::vector<int32_t>{0, 0, 1, 1}, std::vector<int32_t>{0, 0, 1, 2}),
              0.5714285714285714, 1e-12);
}

TEST(Discoveries, FollowBenjaminiAndHochberg) {
  // Their example: m = 15, q = 0.05, four discoveries.
  const std::vector<double> p{0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344,
                              0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0};
  const auto found = discoveries(p, 0.05);
  EXPECT_EQ(std::count(found.begin(), found.end(), true), 4);
}

}  // namespace
}  // namespace cajal::math
