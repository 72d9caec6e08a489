#pragma once
#include "cajal/core/options.h"
#include "cajal/core/torch.h"
#include "cajal/neurons/activation.h"

namespace cajal {

struct DenseFeedForwardOptions {
  int64_t width = 0;    // features in and out
  int64_t neurons = 0;  // hidden neurons
  Activation law = Activation::relu;
  bool bias = true;
};
CAJAL_OPTIONS(DenseFeedForwardOptions, width, neurons, law, bias)

/// Feed-forward block, y = law(x Kᵀ + b) V + c; row i of K and V and element i of b are neuron i.
/// Shapes: x [..., width] -> y [..., width]; key, value [neurons, width], bias_key [neurons],
/// bias_value [width].
/// Throws Error when the last axis of x is not `width`.
/// Source: Vaswani et al. 2017, arXiv 1706.03762, section 3.3; key and value as in Geva et al.
/// 2021, arXiv 2012.14913; dossier _sparse-ffn.
class DenseFeedForwardImpl : public torch::nn::Module {
 public:
  explicit DenseFeedForwardImpl(const DenseFeedForwardOptions& options);
  torch::Tensor forward(const torch::Tensor& x) const;

  const DenseFeedForwardOptions options;
  torch::Tensor key, value, bias_key, bias_value;  // biases undefined without `bias`
};
TORCH_MODULE(DenseFeedForward);

}  // namespace cajal
