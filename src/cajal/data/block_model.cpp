#include "cajal/data/block_model.h"

#include <algorithm>
#include <cmath>

#include "cajal/core/error.h"
#include "cajal/core/random.h"

namespace cajal::data {
namespace {

/// Calls take(i) for a random subset of 0 ... count - 1, each in it with `probability`.
template <class Take>
void sample(Random& random, int64_t count, double probability, const Take& take) {
  if (probability <= 0) return;
  const double log_miss = std::log1p(-std::min(probability, 1 - 1e-12));
  for (double i = -1;;) {
    i += 1 + std::floor(std::log(1 - random.uniform()) / log_miss);  // a geometric gap
    if (i >= static_cast<double>(count)) return;
    take(static_cast<int64_t>(i));
  }
}

}  // namespace

BlockGraph block_model(const BlockModelOptions& o, uint64_t seed) {
  require(o.classes > 1 && o.nodes >= o.classes && o.nodes <= 100'000'000,
          "block model: {} nodes in {} classes", o.nodes, o.classes);
  require(o.features > 0 && o.features <= 65536, "block model: {} features", o.features);
  const double size = static_cast<double>(o.nodes) / static_cast<double>(o.classes);
  const double p_in = o.inside / size, p_out = o.between / (static_cast<double>(o.nodes) - size);
  require(p_in >= 0 && p_in <= 1 && p_out >= 0 && p_out <= 1,
          "block model: {} and {} neighbours are too many for classes of {}", o.inside, o.between,
          size);
  Random random(seed, 0xb1);
  BlockGraph out;
  out.nodes = o.nodes, out.features = o.features;
  // Nodes are laid out class by class here; their ids are shuffled at the end.
  std::vector<int64_t> begin;
  for (int64_t c = 0; c <= o.classes; ++c) begin.push_back(c * o.nodes / o.classes);
  for (int64_t a = 0; a < o.classes; ++a)
    for (int64_t b = a; b < o.classes; ++b) {
      const int64_t rows = begin[a + 1] - begin[a], columns = begin[b + 1] - begin[b];
      sample(random, rows * columns, a == b ? p_in : p_out, [&](int64_t i) {
        const int64_t u = begin[a] + i / columns, v = begin[b] + i % columns;
        if (u < v) out.edges.emplace_back(static_cast<int32_t>(u), static_cast<int32_t>(v));
      });
    }
  std::vector<int32_t> id(static_cast<size_t>(o.nodes));
  for (size_t i = 0; i < id.size(); ++i) id[i] = static_cast<int32_t>(i);
  shuffle(id, random);
  out.labels.resize(id.size());
  for (int64_t c = 0; c < o.classes; ++c)
    for (int64_t i = begin[c]; i < begin[c + 1]; ++i)
      out.labels[static_cast<size_t>(id[static_cast<size_t>(i)])] = static_cast<int>(c);
  for (auto& [u, v] : out.edges) {
    u = id[static_cast<size_t>(u)], v = id[static_cast<size_t>(v)];
    if (u > v) std::swap(u, v);
  }
  std::sort(out.edges.begin(), out.edges.end());

  std::vector<double> mean(static_cast<size_t>(o.classes * o.features));
  for (int64_t c = 0; c < o.classes; ++c) {
    double squares = 0;
    const auto row = mean.begin() + c * o.features;
    for (int64_t f = 0; f < o.features; ++f) row[f] = random.normal(), squares += row[f] * row[f];
    for (int64_t f = 0; f < o.features; ++f) row[f] /= std::sqrt(squares);
  }
  out.x.resize(static_cast<size_t>(o.nodes * o.features));
  for (int64_t i = 0; i < o.nodes; ++i)
    for (int64_t f = 0; f < o.features; ++f)
      out.x[static_cast<size_t>(i * o.features + f)] = static_cast<float>(
          mean[static_cast<size_t>(out.labels[static_cast<size_t>(i)] * o.features + f)] +
          random.normal());
  return out;
}

}  // namespace cajal::data
