#pragma once
#include <cstdint>
#include <utility>
#include <vector>

namespace cajal::data {

struct BlockModelOptions {
  int64_t nodes = 10'000, classes = 8;
  double inside = 10, between = 1;  // expected neighbours of a node in its class, in all others
  int64_t features = 64;
};

/// A graph whose nodes link mostly within their class, and features that hint at the class.
struct BlockGraph {
  int64_t nodes = 0, features = 0;
  std::vector<int> labels;                         // [nodes]
  std::vector<float> x;                            // [nodes, features]
  std::vector<std::pair<int32_t, int32_t>> edges;  // each once, first < second, ascending
};

/// Stochastic block model: classes of equal size; a pair of one class is linked with probability
/// inside / (nodes / classes), a pair of two with between / (nodes - nodes / classes); features are
/// the class's unit vector + N(0, 1). The same for the same seed; time grows with the edges.
/// Throws Error for options without sense. Source: dossier forward-gnn (p_in = 10 C / N).
BlockGraph block_model(const BlockModelOptions& options, uint64_t seed);

}  // namespace cajal::data
