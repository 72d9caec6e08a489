#pragma once
#include <cstdint>
#include <span>
#include <vector>

namespace cajal::math {

/// Points in clusters.
struct Clusters {
  std::vector<int64_t> label;  // [points]
  std::vector<float> centre;   // [clusters, width], the means of the points
  double inertia = 0;          // Σ ||point - its centre||²
};

struct ClusterOptions {
  int64_t clusters = 0;
  int64_t plain_rounds = 20;      // of k-means at most
  int64_t balanced_rounds = 100;  // of balanced k-means at most, which begin where k-means ended
  uint64_t seed = 0;
};

/// k-means (Lloyd) from centres that are drawn far apart: points [count, width] row-major.
/// Throws Error when there are more clusters than points, and for a number that is not finite.
/// Source: Arthur, Vassilvitskii 2007 (k-means++).
Clusters cluster(std::span<const float> points, int64_t width, const ClusterOptions& options);

/// k-means whose clusters all hold as many points: after plain k-means, assignment with capacities
/// (`assign_balanced`) and means in turn; the round of least inertia is kept. `from`, if not empty,
/// are centres [clusters, width] to begin with instead of plain k-means.
/// Throws Error when the clusters do not divide the points, and for a number that is not finite.
/// Source: dossier moefication (Build 1a); Malinen, Franti 2014.
Clusters cluster_balanced(std::span<const float> points, int64_t width,
                          const ClusterOptions& options, std::span<const float> from = {});

/// How far two ways to group the same things agree, corrected for chance: 1 = the same groups,
/// about 0 = independent ones. Throws Error when the sizes differ.
/// Source: Hubert, Arabie 1985.
double adjusted_rand_index(std::span<const int64_t> a, std::span<const int64_t> b);

}  // namespace cajal::math
