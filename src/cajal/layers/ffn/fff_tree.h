#pragma once
#include "cajal/core/torch.h"

/// The balanced binary tree of a fast feedforward layer: 2^depth leaves below 2^depth - 1 nodes.
/// Node p of level t has index 2^t - 1 + p and the children 2p (left) and 2p + 1 (right) of level
/// t + 1. An input goes right at a node whose logit is >= 0. Source: dossier fast-feedforward.
namespace cajal::fff {

/// Deeper trees are refused: 2^24 leaves are more than any layer here can hold.
inline constexpr int64_t kMaxDepth = 24;

inline int64_t leaf_count(int64_t depth) { return int64_t{1} << depth; }
inline int64_t node_count(int64_t depth) { return leaf_count(depth) - 1; }

/// Weight of each leaf, the product along its path of `right` or 1 - `right`: right [rows, nodes]
/// (probability of going right) -> [rows, leaves]. Rows sum to 1.
torch::Tensor leaf_weights(const torch::Tensor& right, int64_t depth);

/// Weight with which each node is reached: right [rows, nodes] -> [rows, nodes].
torch::Tensor reach_weights(const torch::Tensor& right, int64_t depth);

/// The leaf that the hard path ends in: logits [rows, nodes] -> i64 [rows].
torch::Tensor leaf_of(const torch::Tensor& logits, int64_t depth);

/// The same with only the visited nodes evaluated: x [rows, width], node_w [nodes, width], node_b
/// [nodes, 1] -> i64 [rows].
torch::Tensor descend(const torch::Tensor& x, const torch::Tensor& node_w,
                      const torch::Tensor& node_b, int64_t depth);

/// Entropy of each decision in nats, H = -c ln c - (1 - c) ln(1 - c), c held in [1e-6, 1 - 1e-6].
torch::Tensor decision_entropy(const torch::Tensor& right);

}  // namespace cajal::fff
