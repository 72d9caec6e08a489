#pragma once
#include "cajal/core/options.h"
#include "cajal/core/torch.h"

namespace cajal {

struct ProductKeyMemoryOptions {
  int64_t width = 0;      // features in
  int64_t outputs = 0;    // features out; 0 = width
  int64_t sub_keys = 0;   // in each half: sub_keys² values
  int64_t key_width = 0;  // of a query, even; 0 = width
  int64_t heads = 4;
  int64_t top = 32;  // values that each head reads
};
CAJAL_OPTIONS(ProductKeyMemoryOptions, width, outputs, sub_keys, key_width, heads, top)

/// Product-key memory: y = Σ over heads of Σ over the `top` pairs (i, j) with the highest
/// s_ij = q₁ · c_i + q₂ · c'_j of softmax(s)_ij v_ij, where q = [q₁; q₂] is the head's query.
/// Shapes: x [..., width] -> y [..., outputs]; query_w [heads x key_width, width], query_b [heads x
/// key_width], keys [heads, 2, sub_keys, key_width / 2], values [sub_keys², outputs].
/// Throws Error for options out of range and when the last axis of x is not `width`.
/// Source: Lample et al. 2019, arXiv 1907.05242 (without its batch norm of queries).
class ProductKeyMemoryImpl : public torch::nn::Module {
 public:
  explicit ProductKeyMemoryImpl(const ProductKeyMemoryOptions& options);
  torch::Tensor forward(const torch::Tensor& x) const;

  const ProductKeyMemoryOptions options;
  torch::Tensor query_w, query_b, keys, values;
};
TORCH_MODULE(ProductKeyMemory);

/// The `top` highest sums of one of `first` and one of `second` [rows, n] each: the sums, highest
/// first, and the pair's number i · n + j. Only the best `top` of each list are combined.
std::pair<torch::Tensor, torch::Tensor> top_pairs(const torch::Tensor& first,
                                                  const torch::Tensor& second, int64_t top);

}  // namespace cajal
