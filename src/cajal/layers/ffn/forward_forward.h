#pragma once
#include "cajal/core/options.h"
#include "cajal/core/torch.h"
#include "cajal/neurons/activation.h"

namespace cajal {

struct ForwardForwardLayerOptions {
  int64_t inputs = 0, outputs = 0;
  Activation law = Activation::relu;
  bool normalize = true;   // divide each row of x by its length first
  double epsilon = 1e-12;  // the least length divided by
};
CAJAL_OPTIONS(ForwardForwardLayerOptions, inputs, outputs, law, normalize, epsilon)

/// Layer that learns by its own goodness: y = law(W x̂ + b), x̂ = x / max(‖x‖₂, epsilon). The
/// direction of x passes and its length, the goodness of the layer before, does not.
/// Shapes: x [..., inputs] -> y [..., outputs]; weight [outputs, inputs], bias [outputs].
/// Throws Error when the last axis of x is not `inputs`.
/// Source: Hinton 2022, arXiv 2212.13345, section 2; dossier ff-ensembles.
class ForwardForwardLayerImpl : public torch::nn::Module {
 public:
  explicit ForwardForwardLayerImpl(const ForwardForwardLayerOptions& options);
  torch::Tensor forward(const torch::Tensor& x) const;

  const ForwardForwardLayerOptions options;
  torch::Tensor weight, bias;
};
TORCH_MODULE(ForwardForwardLayer);

}  // namespace cajal
