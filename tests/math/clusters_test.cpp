#include "cajal/math/clusters.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <map>

#include "cajal/core/error.h"
#include "cajal/core/random.h"
#include "cajal/math/assignment.h"
#include "cajal/math/partition.h"

namespace cajal::math {
namespace {

std::vector<float> normals(int64_t count, uint64_t seed) {
  Random random(seed);
  std::vector<float> out(static_cast<size_t>(count));
  for (auto& value : out) value = static_cast<float>(random.normal());
  return out;
}

double total(std::span<const float> cost, const std::vector<int64_t>& group, int64_t groups) {
  double sum = 0;
  for (size_t i = 0; i < group.size(); ++i)
    sum += cost[i * static_cast<size_t>(groups) + static_cast<size_t>(group[i])];
  return sum;
}

std::map<int64_t, int64_t> sizes(const std::vector<int64_t>& label) {
  std::map<int64_t, int64_t> out;
  for (const auto l : label) ++out[l];
  return out;
}

/// The least total cost, by the exact solver on one column a place.
double least(std::span<const float> cost, int64_t rows, int64_t groups) {
  const int64_t each = rows / groups;
  std::vector<float> places;
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t g = 0; g < groups; ++g)
      places.insert(places.end(), static_cast<size_t>(each),
                    cost[static_cast<size_t>(r * groups + g)]);
  double sum = 0;
  const auto column = assign(places, rows, rows);
  for (int64_t r = 0; r < rows; ++r)
    sum += places[static_cast<size_t>(r * rows + column[static_cast<size_t>(r)])];
  return sum;
}

TEST(AssignBalanced, IsWithinAThousandthOfTheExactSolution) {
  for (const auto& [rows, groups] : {std::pair<int64_t, int64_t>{256, 8}, {60, 60}, {64, 2}}) {
    auto cost = normals(rows * groups, 3);
    for (auto& value : cost) value = value * value + 1;
    const auto group = assign_balanced(cost, rows, groups);
    for (const auto& [g, count] : sizes(group)) EXPECT_EQ(count, rows / groups) << g;
    EXPECT_LE(total(cost, group, groups), 1.001 * least(cost, rows, groups));
  }
}

TEST(AssignBalanced, SettlesTies) {
  const std::vector<float> cost(64 * 4, 2.0f);
  for (const auto& [g, count] : sizes(assign_balanced(cost, 64, 4))) EXPECT_EQ(count, 16) << g;
  EXPECT_EQ(assign_balanced(std::vector<float>(5, 1.0f), 5, 1), std::vector<int64_t>(5, 0));
}

TEST(AssignBalanced, RefusesGroupsThatDoNotDivideAndCostsThatAreNone) {
  EXPECT_THROW(assign_balanced(std::vector<float>(10), 5, 2), Error);
  EXPECT_THROW(assign_balanced(std::vector<float>(4), 4, 0), Error);
  EXPECT_THROW(
      assign_balanced(std::vector<float>{0, 1, std::numeric_limits<float>::quiet_NaN(), 0}, 2, 2),
      Error);
}

/// Points around `groups` far centres, in an order that mixes them; `truth` says whose each is.
std::vector<float> clouds(int64_t groups, int64_t each, int64_t width, double noise,
                          std::vector<int64_t>& truth) {
  const auto centres = normals(groups * width, 1), off = normals(groups * each * width, 2);
  std::vector<float> points;
  for (int64_t i = 0; i < groups * each; ++i) {
    const int64_t g = (i * 7) % groups;
    truth.push_back(g);
    for (int64_t j = 0; j < width; ++j)
      points.push_back(3 * centres[static_cast<size_t>(g * width + j)] +
                       static_cast<float>(noise) * off[static_cast<size_t>(i * width + j)]);
  }
  return points;
}

TEST(ClusterBalanced, FindsCloudsOfEqualSizeAndFillsEveryCluster) {
  std::vector<int64_t> truth;
  const auto points = clouds(8, 20, 6, 0.3, truth);
  const auto found = cluster_balanced(points, 6, {.clusters = 8, .seed = 4});
  for (const auto& [c, count] : sizes(found.label)) EXPECT_EQ(count, 20) << c;
  EXPECT_GE(adjusted_rand_index(found.label, truth), 0.99);
}

TEST(ClusterBalanced, InertiaIsTheSumOfSquaredDistancesFromTheMeans) {
  const auto points = normals(12 * 2, 5);
  const auto found = cluster_balanced(points, 2, {.clusters = 3});
  double sum = 0;
  for (size_t i = 0; i < 12; ++i)
    for (size_t j = 0; j < 2; ++j) {
      double mean = 0;
      for (size_t k = 0; k < 12; ++k)
        if (found.label[k] == found.label[i]) mean += points[2 * k + j] / 4.0;
      sum += (points[2 * i + j] - mean) * (points[2 * i + j] - mean);
    }
  EXPECT_NEAR(found.inertia, sum, 1e-5);
}

TEST(ClusterBalanced, TakesPointsThatAreAllAlike) {
  const std::vector<float> points(24, 1.0f);
  for (const auto& [c, count] : sizes(cluster_balanced(points, 2, {.clusters = 4}).label))
    EXPECT_EQ(count, 3) << c;
}

TEST(ClusterBalanced, RefusesClustersThatDoNotDivideAndPointsThatAreNone) {
  EXPECT_THROW(cluster_balanced(normals(20, 1), 2, {.clusters = 3}), Error);
  EXPECT_THROW(cluster_balanced(normals(20, 1), 2, {.clusters = 0}), Error);
  EXPECT_THROW(cluster_balanced(normals(20, 1), 2, {.clusters = 11}), Error);
  EXPECT_THROW(cluster_balanced(std::vector<float>{1, INFINITY}, 1, {.clusters = 1}), Error);
}

TEST(AdjustedRandIndex, IsOneForTheSameGroupsUnderOtherNamesAndNearZeroForOthers) {
  const std::vector<int64_t> a = {0, 0, 1, 1, 2, 2}, b = {5, 5, 3, 3, 9, 9}, c = {0, 1, 2, 0, 1, 2};
  EXPECT_EQ(adjusted_rand_index(a, b), 1);
  EXPECT_NEAR(adjusted_rand_index(a, c), -0.25, 1e-12);  // none of 3 pairs; expected 0.6
}

/// A ring of tight groups that are weakly linked.
Graph groups_of(int64_t groups, int64_t each) {
  const int64_t n = groups * each;
  std::vector<float> links(static_cast<size_t>(n * n));
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = 0; j < n; ++j)
      if (i != j)
        links[static_cast<size_t>(i * n + j)] =
            i % groups == j % groups ? 5.0f : ((i + 1) % n == j || (j + 1) % n == i ? 1.0f : 0.0f);
  return Graph::of_matrix(links, n);
}

TEST(Partition, FindsTightGroupsAndMakesPartsEqual) {
  const auto graph = groups_of(6, 10);
  const auto part = partition(graph, {.parts = 6, .seed = 2});
  for (const auto& [p, count] : sizes(part)) EXPECT_EQ(count, 10) << p;
  EXPECT_EQ(cut_weight(graph, part), 60);  // the ring alone
}

TEST(Partition, MakesEqualPartsOfAGraphWithoutEdges) {
  const auto part = partition(Graph::of_matrix(std::vector<float>(35 * 35), 35), {.parts = 5});
  for (const auto& [p, count] : sizes(part)) EXPECT_EQ(count, 7) << p;
}

TEST(Partition, RefusesPartsThatDoNotDivide) {
  EXPECT_THROW(partition(groups_of(2, 3), {.parts = 4}), Error);
  EXPECT_THROW(partition(groups_of(2, 3), {.parts = 0}), Error);
  EXPECT_THROW(Graph::of_matrix(std::vector<float>(5), 2), Error);
}

}  // namespace
}  // namespace cajal::math
