#pragma once
#include <cstdint>
#include <vector>

#include "cajal/core/threads.h"
#include "cajal/kernels/fff.h"
#include "cajal/layers/ffn/fast_feed_forward.h"
#include "cajal/layers/ffn/fff_nodes.h"

/// Fast feedforward layers as the kernels run them, without libtorch's calls: copies of the
/// weights, a neuron a row. For inference on the CPU; they follow the hard path.
namespace cajal::fff {

class PackedTree {
 public:
  explicit PackedTree(const FastFeedForwardImpl& layer);

  /// x [count, width] -> y [count, outputs].
  void run(const float* x, int64_t count, float* y, ThreadPool& threads) const;

 private:
  std::vector<torch::Tensor> weights_;  // what the trees look at
  FeedForwardTree tree_, master_;       // the master leaf is a tree of depth 0
  float blend_ = 1;                     // s of the master leaf
};

class PackedNodes {
 public:
  explicit PackedNodes(const FffNodesImpl& layer);

  /// x [count, width] -> y [count, outputs].
  void run(const float* x, int64_t count, float* y, ThreadPool& threads) const;

 private:
  std::vector<torch::Tensor> weights_;
  NodeForest forest_;
};

}  // namespace cajal::fff
