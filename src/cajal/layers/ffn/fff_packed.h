#pragma once
#include <cstdint>
#include <vector>

#include "cajal/core/threads.h"
#include "cajal/layers/ffn/fast_feed_forward.h"
#include "cajal/layers/ffn/fff_nodes.h"

/// Fast feedforward layers as they run without libtorch's calls: plain loops over packed rows, a
/// leaf's or a node's rows side by side. For inference on the CPU; they follow the hard path.
namespace cajal::fff {

/// A FastFeedForward with ReLU leaves. Reads depth + 2 leaf_width rows for each vector.
class PackedTree {
 public:
  /// Copies the weights. Throws Error when the law of the leaves is not ReLU.
  explicit PackedTree(const FastFeedForwardImpl& layer);

  /// x [count, width] -> y [count, outputs]; vectors are taken in the order of their leaves.
  void run(const float* x, int64_t count, float* y, ThreadPool& threads) const;
  int64_t leaf(const float* x) const;

 private:
  void answer(const float* x, int64_t leaf, float* y) const;

  int64_t width_, outputs_, leaf_width_, depth_, master_;
  float blend_ = 1;            // s of the master leaf
  std::vector<float> nodes_;   // [nodes, width]
  std::vector<float> biases_;  // [nodes]
  std::vector<float> leaves_;  // a leaf: keys [leaf_width, width], values [leaf_width, outputs],
                               // biases [leaf_width], [outputs]; the master leaf is the last
  int64_t leaf_size_;
};

/// FffNodes with GELU. Reads 2 (depth + 1) rows of each tree for each vector.
class PackedNodes {
 public:
  /// Copies the weights. Throws Error when the law is not GELU.
  explicit PackedNodes(const FffNodesImpl& layer);

  /// x [count, width] -> y [count, outputs].
  void run(const float* x, int64_t count, float* y, ThreadPool& threads) const;

 private:
  int64_t width_, outputs_, depth_, trees_, nodes_;
  std::vector<float> rows_;    // a node: w_in [width], w_out [outputs]
  std::vector<float> biases_;  // [trees x nodes]
};

}  // namespace cajal::fff
