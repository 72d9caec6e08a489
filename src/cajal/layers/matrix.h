#pragma once
#include "cajal/core/torch.h"
#include "cajal/kernels/formats/format.h"

namespace cajal {

/// Which axis of a stored matrix is contiguous.
enum class Major {
  output,  // [outputs, inputs], one row an output: torch Linear, HF `up_proj`, `down_proj`
  input,  // [inputs, outputs], one row an input: GPT-2 Conv1D, and FFN values with one row a neuron
};

/// A weight matrix as it lies in its file: float, half or block-quantised, mapped or owned, never
/// widened as a whole. y = x Wᵀ for x [..., inputs] -> y [..., outputs], fp32 for fp32 x.
/// Few rows of x (decoding) go through the row kernels of kernels/rows.h straight from the stored
/// bytes; many rows (prefill, evaluation) widen a slab of W at a time; a dense matrix that needs a
/// gradient, or lies on a GPU, goes through torch::matmul in the type of x.
class Matrix {
 public:
  Matrix() = default;  // empty: defined() is false

  /// A dense matrix over `weight`, [outputs, inputs] or [inputs, outputs]; a parameter stays one.
  static Matrix dense(torch::Tensor weight, Major major = Major::output);
  /// Block-quantised rows: `bytes` u8 [rows, row_bytes(format, columns)].
  static Matrix packed(Format format, torch::Tensor bytes, int64_t columns, Major major);

  bool defined() const { return weight_.defined(); }
  int64_t rows() const { return weight_.size(0); }  // in the stored orientation
  int64_t columns() const { return columns_; }
  int64_t inputs() const { return major_ == Major::output ? columns() : rows(); }
  int64_t outputs() const { return major_ == Major::output ? rows() : columns(); }
  Format format() const { return format_; }  // of a double matrix: f32
  Major major() const { return major_; }
  int64_t stored_bytes() const { return static_cast<int64_t>(weight_.nbytes()); }

  /// x Wᵀ + bias; `bias` [outputs] may be undefined.
  torch::Tensor apply(const torch::Tensor& x, const torch::Tensor& bias = {}) const;

  /// Rows `ids` i64 [...] of the stored orientation in fp32: [..., columns]. Reads those rows only.
  torch::Tensor lookup(const torch::Tensor& ids) const;
  /// The whole matrix as fp32 [rows, columns] in its stored orientation.
  torch::Tensor decoded() const;
  /// The stored tensor: dense weight, or bytes.
  const torch::Tensor& stored() const { return weight_; }
  torch::Tensor& stored() { return weight_; }
  /// Rows [begin, end) in the stored orientation, sharing memory.
  Matrix rows(int64_t begin, int64_t end) const;

 private:
  torch::Tensor plain_apply(const torch::Tensor& x, const torch::Tensor& bias) const;
  torch::Tensor slab_apply(const torch::Tensor& x) const;

  torch::Tensor weight_;
  Format format_ = Format::f32;
  int64_t columns_ = 0;
  Major major_ = Major::output;
};

}  // namespace cajal
