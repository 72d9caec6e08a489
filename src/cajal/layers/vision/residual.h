#pragma once
#include "cajal/layers/vision/conv_norm.h"

namespace cajal {

struct ResidualBlockOptions {
  int64_t inputs = 0, outputs = 0;  // channels
  int64_t stride = 1;
};
CAJAL_OPTIONS(ResidualBlockOptions, inputs, outputs, stride)

/// ResNet's basic block: y = relu(norm(conv(relu(norm(conv(x))))) + s(x)), 3 x 3 convolutions, the
/// first with the stride; s is the identity, or a normed 1 x 1 convolution where the shape changes.
/// Shapes: x [batch, inputs, height, width] -> y [batch, outputs, height / stride, width / stride].
/// Source: He et al. 2015, arXiv 1512.03385; dossier scalable-ff.
class ResidualBlockImpl : public torch::nn::Module {
 public:
  explicit ResidualBlockImpl(const ResidualBlockOptions& options);
  torch::Tensor forward(const torch::Tensor& x);

  const ResidualBlockOptions options;
  ConvNorm first{nullptr}, second{nullptr}, shortcut{nullptr};  // shortcut empty: the identity
};
TORCH_MODULE(ResidualBlock);

struct SqueezeExcitationOptions {
  int64_t channels = 0, squeezed = 0;
};
CAJAL_OPTIONS(SqueezeExcitationOptions, channels, squeezed)

/// y = x · hard_sigmoid(W_2 relu(W_1 mean(x) + b_1) + b_2), one factor a channel; the mean is over
/// positions. Shapes: x, y [batch, channels, height, width]; weight_1 [squeezed, channels],
/// weight_2 [channels, squeezed]. Sources: Hu et al. 2017, arXiv 1709.01507; MobileNetV3's gate.
class SqueezeExcitationImpl : public torch::nn::Module {
 public:
  explicit SqueezeExcitationImpl(const SqueezeExcitationOptions& options);
  torch::Tensor forward(const torch::Tensor& x) const;

  const SqueezeExcitationOptions options;
  torch::Tensor weight_1, bias_1, weight_2, bias_2;
};
TORCH_MODULE(SqueezeExcitation);

struct InvertedResidualOptions {
  int64_t inputs = 0, outputs = 0;  // channels
  int64_t expanded = 0;             // channels in between
  int64_t kernel = 3, stride = 1;
  bool squeeze = false;  // squeeze and excitation of the middle, to a quarter of its channels
  Activation law = Activation::relu;
};
CAJAL_OPTIONS(InvertedResidualOptions, inputs, outputs, expanded, kernel, stride, squeeze, law)

/// MobileNetV3's block: 1 x 1 to `expanded` channels (left out where that is `inputs`), a depthwise
/// convolution, squeeze and excitation, 1 x 1 to `outputs` without law; x is added where stride is
/// 1 and the channels are equal. Shapes as of ResidualBlock. Source: Howard et al. 2019, arXiv
/// 1905.02244, table 2; dossier scalable-ff.
class InvertedResidualImpl : public torch::nn::Module {
 public:
  explicit InvertedResidualImpl(const InvertedResidualOptions& options);
  torch::Tensor forward(const torch::Tensor& x);

  const InvertedResidualOptions options;
  ConvNorm expand{nullptr}, depthwise{nullptr}, project{nullptr};
  SqueezeExcitation gate{nullptr};
};
TORCH_MODULE(InvertedResidual);

/// The multiple of `unit` nearest to `channels`, not below nine tenths of it: MobileNet's rounding.
int64_t round_channels(double channels, int64_t unit = 8);

}  // namespace cajal
