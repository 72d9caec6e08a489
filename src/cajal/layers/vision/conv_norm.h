#pragma once
#include "cajal/core/options.h"
#include "cajal/core/torch.h"
#include "cajal/neurons/activation.h"

namespace cajal {

struct ConvNormOptions {
  int64_t inputs = 0, outputs = 0;  // channels
  int64_t kernel = 3, stride = 1, groups = 1;
  Activation law = Activation::relu;
  double epsilon = 1e-5, momentum = 0.1;  // of batch norm
};
CAJAL_OPTIONS(ConvNormOptions, inputs, outputs, kernel, stride, groups, law, epsilon, momentum)

/// Convolution without bias, batch norm, law; padded by kernel / 2. While training, batch norm uses
/// the batch's own statistics and updates the running ones that it uses otherwise.
/// Shapes: x [batch, inputs, height, width] -> y [batch, outputs, height / stride, width / stride],
/// rounded up for odd kernels; weight [outputs, inputs / groups, kernel, kernel], gain and shift
/// [outputs]; buffers mean and variance [outputs].
/// Source: Ioffe, Szegedy 2015, arXiv 1502.03167.
class ConvNormImpl : public torch::nn::Module {
 public:
  explicit ConvNormImpl(const ConvNormOptions& options);
  torch::Tensor forward(const torch::Tensor& x);

  const ConvNormOptions options;
  torch::Tensor weight, gain, shift, mean, variance;
};
TORCH_MODULE(ConvNorm);

}  // namespace cajal
