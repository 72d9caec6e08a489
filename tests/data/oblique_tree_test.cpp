#include "cajal/data/oblique_tree.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "cajal/core/error.h"

namespace cajal::data {
namespace {

double share(const ObliqueTreeTask& task, int32_t region) {
  return static_cast<double>(std::count(task.region.begin(), task.region.end(), region)) /
         static_cast<double>(task.region.size());
}

TEST(ObliqueTree, HalvingRegionsHoldHalfAQuarterAnEighth) {
  const auto task = oblique_tree({.count = 20'000, .regions = Regions::halving});
  EXPECT_NEAR(share(task, 0), 0.5, 0.02);
  EXPECT_NEAR(share(task, 1), 0.25, 0.02);
  EXPECT_NEAR(share(task, 2), 0.125, 0.02);
}

TEST(ObliqueTree, OneTaskHasManySamplesOfTheSameRegions) {
  const auto a = oblique_tree({.count = 50, .task = 3, .sample = 1}),
             b = oblique_tree({.count = 50, .task = 3, .sample = 1}),
             c = oblique_tree({.count = 50, .task = 3, .sample = 2});
  EXPECT_EQ(a.x, b.x);
  EXPECT_EQ(a.labels, b.labels);
  EXPECT_NE(a.x, c.x);
}

TEST(ObliqueTree, EveryRegionOfABalancedTreeIsUsed) {
  const auto task = oblique_tree({.count = 20'000});
  for (int32_t region = 0; region < 16; ++region) EXPECT_GT(share(task, region), 0.005);
}

TEST(ObliqueTree, RefusesMoreOrthogonalCutsThanFeatures) {
  EXPECT_THROW(oblique_tree({.features = 8, .regions = Regions::halving}), Error);
  EXPECT_THROW(oblique_tree({.count = 0}), Error);
}

}  // namespace
}  // namespace cajal::data
