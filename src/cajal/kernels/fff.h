#pragma once
#include <cstdint>

#include "cajal/core/threads.h"
#include "cajal/kernels/gemm.h"
#include "cajal/kernels/law.h"
#include "cajal/kernels/rows.h"

namespace cajal {

/// A balanced binary tree of neurons that chooses one of 2^depth small feed-forward networks for a
/// token (a fast feedforward layer); it owns nothing. Node p of level t is row 2^t - 1 + p; its
/// children are 2 p (left) and 2 p + 1 (right) of level t + 1, and a token goes right where
/// node · x + bias >= 0. The neurons of leaf j are the rows [j · leaf_width(), ...) of key and
/// value. Source: Belcak, Wattenhofer 2023, arXiv 2308.14711; dossier fast-feedforward.
struct FeedForwardTree {
  int64_t depth = 0;
  RowMatrix node;                     // [2^depth - 1, width]
  RowMatrix key;                      // [leaves · leaf_width, width]
  RowMatrix value;                    // [leaves · leaf_width, outputs]
  const float* node_bias = nullptr;   // [2^depth - 1], or null
  const float* key_bias = nullptr;    // [leaves · leaf_width], or null
  const float* value_bias = nullptr;  // [leaves, outputs], or null
  Law law = Law::relu;

  int64_t leaves() const { return int64_t{1} << depth; }
  int64_t leaf_width() const { return key.rows >> depth; }
  int64_t width() const { return key.width; }
  int64_t outputs() const { return value.width; }
};

/// The leaf that each token ends in: x [batch, width] -> leaf [batch].
/// Throws Error when the matrices do not fit together.
void descend_tree(const FeedForwardTree& tree, const float* x, int64_t batch, int32_t* leaf,
                  ThreadPool& threads);

/// y[b] = law(key x[b] + key_bias) value + value_bias of the leaf that x[b] ends in. A token reads
/// depth nodes and one leaf, and of that only the values of neurons that are not zero; where many
/// tokens meet in a leaf they are multiplied together, with `precision`. Bitwise the same for every
/// number of threads. Shapes: x [batch, width], y [batch, outputs].
/// Throws Error when the matrices do not fit together.
void tree_feed_forward(const FeedForwardTree& tree, const float* x, int64_t batch, float* y,
                       ThreadPool& threads, Precision precision = Precision::f32);

/// Trees whose visited nodes answer: node i of tree p is row p (2^(depth + 1) - 1) + i of key and
/// value, its children are 2 i + 1, and 2 i + 2 where its key · x + bias > 0.
/// Source: Belcak, Wattenhofer 2023, arXiv 2311.10770 (UltraFastBERT); dossier fast-feedforward.
struct NodeForest {
  int64_t depth = 0, trees = 1;
  RowMatrix key;                    // [trees · (2^(depth + 1) - 1), width]
  RowMatrix value;                  // [trees · (2^(depth + 1) - 1), outputs]
  const float* key_bias = nullptr;  // [trees · (2^(depth + 1) - 1)], or null
  Law law = Law::gelu;

  int64_t nodes() const { return (int64_t{2} << depth) - 1; }  // of one tree
  int64_t width() const { return key.width; }
  int64_t outputs() const { return value.width; }
};

/// y[b] = Σ over trees and their depth + 1 visited nodes of law(key · x[b] + bias) value.
/// Bitwise the same for every number of threads. Shapes: x [batch, width], y [batch, outputs].
/// Throws Error when the matrices do not fit together.
void forest_feed_forward(const NodeForest& forest, const float* x, int64_t batch, float* y,
                         ThreadPool& threads);

}  // namespace cajal
