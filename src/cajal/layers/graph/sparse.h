#pragma once
#include <utility>

#include "cajal/core/torch.h"

namespace cajal::graph {

/// Where a sparse matrix [rows, columns] has entries, row by row (CSR), and the same column by
/// column, so that products and their gradients each are one pass without races. Of a graph, row i
/// lists the nodes whose messages reach node i.
struct Pattern {
  int64_t rows = 0, columns = 0;
  torch::Tensor begin;         // i64 [rows + 1]
  torch::Tensor row, column;   // i64 [entries], by row, then in the order given
  torch::Tensor column_begin;  // i64 [columns + 1]
  torch::Tensor by_column;     // i64 [entries]: entries by column

  int64_t entries() const { return column.numel(); }
};

/// The pattern with entries (row[e], column[e]); `order`, where given, receives the place of each
/// of its entries among those given. Throws Error for indices out of range.
Pattern pattern(const torch::Tensor& row, const torch::Tensor& column, int64_t rows,
                int64_t columns, torch::Tensor* order = nullptr);

/// The pattern of messages along `edges` i64 [2, edges] (row 0 from, row 1 to) of `nodes` nodes.
Pattern messages(const torch::Tensor& edges, int64_t nodes);
/// The same with exactly one loop at every node; loops among `edges` are not doubled.
Pattern messages_with_loops(const torch::Tensor& edges, int64_t nodes);

/// y[i] = Σ over entries e of row i of value[e] · x[column[e]].
/// x [columns, width], value [entries] or undefined (ones) -> y [rows, width]; or with heads, x
/// [columns, heads, width], value [entries, heads] -> y [rows, heads, width]. Differentiable in
/// both x and value; keeps x for the backward pass only where value needs a gradient.
torch::Tensor multiply(const Pattern& pattern, const torch::Tensor& value, const torch::Tensor& x);

/// Softmax over the entries of each row, score [entries, heads] -> [entries, heads].
torch::Tensor row_softmax(const Pattern& pattern, const torch::Tensor& score);

/// Features of nodes [rows, width]: sparse columns, dense columns or both, in this order. The
/// sparse ones are never made dense.
struct Features {
  Pattern pattern = {};      // of the sparse columns; rows = 0: none
  torch::Tensor value = {};  // [entries]
  torch::Tensor dense = {};  // [rows, columns], or undefined

  Features() = default;
  Features(torch::Tensor x) : dense(std::move(x)) {}
  Features(Pattern where, torch::Tensor values, torch::Tensor beside = {})
      : pattern(std::move(where)), value(std::move(values)), dense(std::move(beside)) {}

  int64_t rows() const { return dense.defined() ? dense.size(0) : pattern.rows; }
  int64_t width() const { return pattern.columns + (dense.defined() ? dense.size(1) : 0); }
  /// x Wᵀ, [rows, outputs]; weight [outputs, width].
  torch::Tensor times(const torch::Tensor& weight) const;
  /// Rows divided by their length, x / (‖x‖₂ + 1e-8); cut from any graph.
  Features directions() const;
  /// With further dense columns [rows, columns].
  Features beside(const torch::Tensor& columns) const;
  /// With further rows [count, width].
  Features above(const torch::Tensor& more) const;
};

}  // namespace cajal::graph
