#include "cajal/math/clusters.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "cajal/core/error.h"
#include "cajal/core/random.h"
#include "cajal/math/assignment.h"

namespace cajal::math {
namespace {

/// Points, and their squared distances to centres.
class Cloud {
 public:
  Cloud(std::span<const float> points, int64_t width, int64_t clusters)
      : points_(points), width_(width), clusters_(clusters) {
    require(width > 0 && std::ssize(points) % width == 0,
            "clusters: {} numbers are no points of {}", points.size(), width);
    count_ = std::ssize(points) / width;
    require(clusters >= 1 && clusters <= count_, "clusters: {} of {} points, expected 1 to {}",
            clusters, count_, count_);
    for (const float value : points)
      require(std::isfinite(value), "clusters: a point is not finite");
  }

  int64_t count() const { return count_; }
  const float* point(int64_t i) const { return points_.data() + i * width_; }

  /// [count, clusters]
  std::vector<float> distances(std::span<const float> centres) const {
    const auto k = static_cast<size_t>(clusters_);
    std::vector<float> turned(centres.size()), length(k), out(static_cast<size_t>(count_) * k);
    for (size_t c = 0; c < k; ++c)
      for (int64_t j = 0; j < width_; ++j) {
        const float value = centres[c * static_cast<size_t>(width_) + static_cast<size_t>(j)];
        turned[static_cast<size_t>(j) * k + c] = value;
        length[c] += value * value;
      }
    for (int64_t i = 0; i < count_; ++i) {
      float* row = out.data() + static_cast<size_t>(i) * k;
      const float* x = point(i);
      float own = 0;
      for (int64_t j = 0; j < width_; ++j) {
        const float value = x[j], *of = turned.data() + static_cast<size_t>(j) * k;
        own += value * value;
        for (size_t c = 0; c < k; ++c) row[c] += value * of[c];
      }
      for (size_t c = 0; c < k; ++c) row[c] = std::max(0.0f, own + length[c] - 2 * row[c]);
    }
    return out;
  }

  std::vector<float> scattered_centres(Random& random) const {
    std::vector<float> centres;
    std::vector<double> nearest(static_cast<size_t>(count_), INFINITY);
    auto chosen = static_cast<int64_t>(random.below(static_cast<uint64_t>(count_)));
    for (int64_t c = 0; c < clusters_; ++c) {
      centres.insert(centres.end(), point(chosen), point(chosen) + width_);
      double sum = 0;
      for (int64_t i = 0; i < count_; ++i) {
        auto& least = nearest[static_cast<size_t>(i)];
        least = std::min(least, distance(i, point(chosen)));
        sum += least;
      }
      double left = random.uniform() * sum;
      chosen = 0;
      for (int64_t i = 0; i < count_; ++i) {
        left -= nearest[static_cast<size_t>(i)];
        if (nearest[static_cast<size_t>(i)] > 0) chosen = i;
        if (left <= 0) break;
      }
    }
    return centres;
  }

  /// The clusters that labels make. A cluster without points keeps the centre it had.
  Clusters with(std::vector<int64_t> label, std::vector<float> before) const {
    Clusters out{std::move(label), std::move(before), 0};
    std::vector<double> sum(out.centre.size());
    std::vector<int64_t> members(static_cast<size_t>(clusters_));
    for (int64_t i = 0; i < count_; ++i) {
      const int64_t c = out.label[static_cast<size_t>(i)];
      ++members[static_cast<size_t>(c)];
      for (int64_t j = 0; j < width_; ++j) sum[static_cast<size_t>(c * width_ + j)] += point(i)[j];
    }
    for (int64_t c = 0; c < clusters_; ++c)
      for (int64_t j = 0; j < width_ && members[static_cast<size_t>(c)] > 0; ++j)
        out.centre[static_cast<size_t>(c * width_ + j)] =
            static_cast<float>(sum[static_cast<size_t>(c * width_ + j)] /
                               static_cast<double>(members[static_cast<size_t>(c)]));
    for (int64_t i = 0; i < count_; ++i)
      out.inertia += distance(i, out.centre.data() + out.label[static_cast<size_t>(i)] * width_);
    return out;
  }

 private:
  double distance(int64_t i, const float* to) const {
    double sum = 0;
    for (int64_t j = 0; j < width_; ++j) {
      const double off = static_cast<double>(point(i)[j]) - to[j];
      sum += off * off;
    }
    return sum;
  }

  std::span<const float> points_;
  int64_t width_, clusters_, count_ = 0;
};

Clusters plain(const Cloud& cloud, const ClusterOptions& o) {
  Random random(o.seed);
  Clusters out{{}, cloud.scattered_centres(random), 0};
  for (int64_t round = 0; round < std::max<int64_t>(1, o.plain_rounds); ++round) {
    const auto distance = cloud.distances(out.centre);
    std::vector<int64_t> label(static_cast<size_t>(cloud.count()));
    for (size_t i = 0; i < label.size(); ++i) {
      const auto row = distance.begin() + static_cast<int64_t>(i) * o.clusters;
      label[i] = std::min_element(row, row + o.clusters) - row;
    }
    if (label == out.label) break;
    out = cloud.with(std::move(label), std::move(out.centre));
  }
  return out;
}

}  // namespace

Clusters cluster(std::span<const float> points, int64_t width, const ClusterOptions& o) {
  return plain(Cloud(points, width, o.clusters), o);
}

Clusters cluster_balanced(std::span<const float> points, int64_t width, const ClusterOptions& o,
                          std::span<const float> from) {
  const Cloud cloud(points, width, o.clusters);
  require(cloud.count() % o.clusters == 0, "clusters: {} do not divide {} points", o.clusters,
          cloud.count());
  require(from.empty() || std::ssize(from) == o.clusters * width,
          "clusters: {} numbers to begin from, expected {} centres of {}", from.size(), o.clusters,
          width);
  Clusters now{{}, {from.begin(), from.end()}, INFINITY}, best;
  best.inertia = INFINITY;
  if (from.empty()) now.centre = plain(cloud, o).centre;
  for (int64_t round = 0; round < std::max<int64_t>(1, o.balanced_rounds); ++round) {
    auto label = assign_balanced(cloud.distances(now.centre), cloud.count(), o.clusters);
    const bool settled = label == now.label;
    now = cloud.with(std::move(label), std::move(now.centre));
    if (now.inertia < best.inertia) best = now;
    if (settled) break;
  }
  return best;
}

double adjusted_rand_index(std::span<const int64_t> a, std::span<const int64_t> b) {
  require(a.size() == b.size(), "rand index: {} labels and {}", a.size(), b.size());
  std::map<std::pair<int64_t, int64_t>, double> both;
  std::map<int64_t, double> in_a, in_b;
  for (size_t i = 0; i < a.size(); ++i) ++both[{a[i], b[i]}], ++in_a[a[i]], ++in_b[b[i]];
  const auto pairs = [](double n) { return n * (n - 1) / 2; };
  double together = 0, sum_a = 0, sum_b = 0;
  for (const auto& [key, n] : both) together += pairs(n);
  for (const auto& [key, n] : in_a) sum_a += pairs(n);
  for (const auto& [key, n] : in_b) sum_b += pairs(n);
  const double all = pairs(static_cast<double>(a.size()));
  const double expected = all > 0 ? sum_a * sum_b / all : 0, most = (sum_a + sum_b) / 2;
  return most == expected ? 1 : (together - expected) / (most - expected);
}

}  // namespace cajal::math
