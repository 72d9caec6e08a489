#pragma once
#include "cajal/core/options.h"
#include "cajal/core/torch.h"
#include "cajal/neurons/activation.h"

namespace cajal {

struct GatedFeedForwardOptions {
  int64_t width = 0;    // features in and out
  int64_t neurons = 0;  // hidden neurons
  Activation law = Activation::silu;
  bool bias = false;
};
CAJAL_OPTIONS(GatedFeedForwardOptions, width, neurons, law, bias)

/// Gated feed-forward block, y = (law(x Gᵀ + a) ∘ (x Kᵀ + b)) V + c; row i of G, K and V and
/// element i of a and b are neuron i. Shapes: x [..., width] -> y [..., width]; gate, key, value
/// [neurons, width], bias_gate and bias_key [neurons], bias_value [width]. Throws Error when the
/// last axis of x is not `width`. Source: Shazeer 2020, arXiv 2002.05202; dossier _sparse-ffn.
class GatedFeedForwardImpl : public torch::nn::Module {
 public:
  explicit GatedFeedForwardImpl(const GatedFeedForwardOptions& options);
  torch::Tensor forward(const torch::Tensor& x) const;

  const GatedFeedForwardOptions options;
  torch::Tensor gate, key, value, bias_gate, bias_key, bias_value;  // undefined without `bias`
};
TORCH_MODULE(GatedFeedForward);

}  // namespace cajal
