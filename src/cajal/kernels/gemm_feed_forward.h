#pragma once
#include <cstdint>
#include <span>

#include "cajal/kernels/gemm.h"
#include "cajal/kernels/law.h"

namespace cajal {

/// How the values of neurons are stored: a row for each neuron [neurons, outputs], or a row for
/// each output [outputs, neurons] as checkpoints have it.
enum class ValueLayout { by_neuron, by_output };

/// A feed-forward block; row i of key and gate is neuron i. It owns nothing.
struct FeedForwardRows {
  RowMatrix key;   // [neurons, width]
  RowMatrix gate;  // [neurons, width]; without data: law(key x) instead of law(gate x) (key x)
  RowMatrix value;
  ValueLayout layout = ValueLayout::by_neuron;
  Law law = Law::silu;
  const float* key_bias = nullptr;  // [neurons], or null; of the gate's input where there is a gate

  int64_t neurons() const { return key.rows; }
  int64_t width() const { return key.width; }
  int64_t outputs() const { return layout == ValueLayout::by_neuron ? value.width : value.rows; }
};

/// Which tokens meet which neurons: group g is the neurons [rows[g], rows[g + 1]) and meets the
/// tokens token[begin[g]] ... token[begin[g + 1] - 1].
struct TokenGroups {
  std::span<const int64_t> rows;   // [groups + 1]
  std::span<const int64_t> begin;  // [groups + 1]
  std::span<const int32_t> token;  // [begin.back()]
  const float* weight = nullptr;   // [begin.back()], multiplies what a group gives; null: ones
};

/// y[b] += Σ over neurons of law(gate x[b]) (key x[b]) value. Shapes: x [batch, width], y [batch,
/// outputs].
/// Bitwise the same for every number of threads.
/// Throws Error when the matrices do not fit together.
void feed_forward_many(const FeedForwardRows& block, const float* x, int64_t batch, float* y,
                       ThreadPool& threads, Precision precision = Precision::bf16);

/// The same with the neurons of the groups that a token meets, in the order of the groups.
/// Throws Error when groups or tokens are out of range, or cut a block of values by output.
void grouped_feed_forward(const FeedForwardRows& block, const TokenGroups& groups, const float* x,
                          int64_t batch, float* y, ThreadPool& threads,
                          Precision precision = Precision::bf16);

}  // namespace cajal
