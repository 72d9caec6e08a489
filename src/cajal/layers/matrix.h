#pragma once
#include <memory>

#include "cajal/core/tensors.h"
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
/// bytes; many rows (prefill, evaluation) widen a slab of W at a time; a dense fp32 matrix that
/// needs a gradient, or lies on a GPU, goes through torch::matmul.
class Matrix {
 public:
  Matrix() = default;  // empty: defined() is false

  /// A dense matrix over `weight`, [outputs, inputs] or [inputs, outputs]; a parameter stays one.
  static Matrix dense(torch::Tensor weight, Major major = Major::output);
  /// Block-quantised rows: `bytes` u8 [rows, row_bytes(format, columns)].
  static Matrix packed(Format format, torch::Tensor bytes, int64_t columns, Major major);

  bool defined() const { return weight_.defined(); }
  int64_t inputs() const;
  int64_t outputs() const;
  Format format() const { return format_; }
  Major major() const { return major_; }
  int64_t stored_bytes() const;

  torch::Tensor apply(const torch::Tensor& x) const;

  /// The whole matrix as fp32 [rows, columns] in its stored orientation.
  torch::Tensor decoded() const;
  /// The stored tensor: dense weight, or bytes.
  const torch::Tensor& stored() const { return weight_; }
  /// Rows [begin, end) in the stored orientation, sharing memory.
  Matrix rows(int64_t begin, int64_t end) const;

 private:
  torch::Tensor weight_;
  Format format_ = Format::f32;
  int64_t columns_ = 0;
  Major major_ = Major::output;
};

}  // namespace cajal
