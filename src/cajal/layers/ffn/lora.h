#pragma once
#include "cajal/core/options.h"
#include "cajal/core/torch.h"
#include "cajal/layers/ffn/routed.h"

namespace cajal {

struct LoraLinearOptions {
  int64_t inputs = 0, outputs = 0;
  int64_t rank = 16;
  double alpha = 0;  // the correction counts alpha / rank, with Kaiming's start; 0: it counts 1
  bool bias = true;
};
CAJAL_OPTIONS(LoraLinearOptions, inputs, outputs, rank, alpha, bias)

/// Linear map with a correction of low rank, y = x Wᵀ + b + s (x A) Rᵀ, s = alpha / rank or 1. At
/// the start R = 0. Shapes: x [..., inputs] -> y [..., outputs]; weight [outputs, inputs], bias
/// [outputs], left (A) [inputs, rank], right (R) [outputs, rank]. Weight and bias are frozen by
/// whoever tunes. Throws Error for options out of range and a wrong last axis of x.
/// Source: Hu et al. 2021, arXiv 2106.09685; dossier spt (Build 5).
class LoraLinearImpl : public torch::nn::Module {
 public:
  explicit LoraLinearImpl(const LoraLinearOptions& options);
  torch::Tensor forward(const torch::Tensor& x) const;

  /// W + s R Aᵀ: the plain map that computes the same.
  torch::Tensor merged() const;
  double scale() const;

  const LoraLinearOptions options;
  torch::Tensor weight, bias;  // bias undefined without `bias`
  LowRank correction;
};
TORCH_MODULE(LoraLinear);

}  // namespace cajal
