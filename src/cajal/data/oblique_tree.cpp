#include "cajal/data/oblique_tree.h"

#include <cmath>

#include "cajal/core/error.h"
#include "cajal/core/random.h"

namespace cajal::data {
namespace {

using Rows = std::vector<std::vector<double>>;

double dot(const std::vector<double>& a, const float* x) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * static_cast<double>(x[i]);
  return sum;
}

Rows normal_rows(size_t rows, size_t width, Random& random) {
  Rows out(rows, std::vector<double>(width));
  for (auto& row : out)
    for (auto& value : row) value = random.normal();
  return out;
}

// Gram and Schmidt: with orthogonal cuts of a normal x, the sides are independent.
void orthogonalise(Rows& rows) {
  for (size_t i = 0; i < rows.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      double along = 0;
      for (size_t k = 0; k < rows[i].size(); ++k) along += rows[i][k] * rows[j][k];
      for (size_t k = 0; k < rows[i].size(); ++k) rows[i][k] -= along * rows[j][k];
    }
    double square = 0;
    for (const double value : rows[i]) square += value * value;
    for (auto& value : rows[i]) value /= std::sqrt(square);
  }
}

}  // namespace

ObliqueTreeTask oblique_tree(const ObliqueTreeOptions& o) {
  require(o.count > 0 && o.features > 0 && o.depth >= 0 && o.depth <= 12 && o.classes > 0 &&
              o.classes <= 256,
          "oblique tree: expected a positive count and features, depth 0 to 12, classes 1 to 256");
  const auto features = static_cast<size_t>(o.features);
  const size_t regions = size_t{1} << o.depth;
  const bool halving = o.regions == Regions::halving;
  require(!halving || regions - 1 <= features,
          "oblique tree: {} orthogonal cuts need as many features, got {}", regions - 1, features);
  Random task(o.task, 1), sample(o.sample, 2);
  auto cuts = normal_rows(regions - 1, features, task);
  if (halving) orthogonalise(cuts);
  std::vector<Rows> maps;
  for (size_t r = 0; r < regions; ++r)
    maps.push_back(normal_rows(static_cast<size_t>(o.classes), features, task));
  ObliqueTreeTask out;
  for (int64_t i = 0; i < o.count; ++i) {
    for (size_t f = 0; f < features; ++f) out.x.push_back(static_cast<float>(sample.normal()));
    const float* x = out.x.data() + static_cast<size_t>(i) * features;
    size_t region = 0;
    if (halving) {
      while (region + 1 < regions && dot(cuts[region], x) < 0) ++region;
    } else {
      for (int64_t level = 0; level < o.depth; ++level)
        region = 2 * region + (dot(cuts[(size_t{1} << level) - 1 + region], x) >= 0);
    }
    size_t best = 0;
    for (size_t c = 1; c < maps[region].size(); ++c)
      if (dot(maps[region][c], x) > dot(maps[region][best], x)) best = c;
    out.labels.push_back(static_cast<uint8_t>(best));
    out.region.push_back(static_cast<int32_t>(region));
  }
  return out;
}

}  // namespace cajal::data
