#pragma once
#include <torch/nn/modules/conv.h>

#include <vector>

#include "cajal/core/options.h"
#include "cajal/core/torch.h"

namespace cajal {

enum class SubPixelKind {
  staged,  // EDSR: for every factor of the scale, convolve to factor² times the channels and
           // shuffle; then a last convolution at full size
  direct,  // ESPCN: one convolution to scale² times the outputs, shuffled
};

struct SubPixelHeadOptions {
  int64_t inputs = 0;
  int64_t outputs = 3;
  int64_t scale = 2;  // 1, 2, 3, 4 or 8
  SubPixelKind kind = SubPixelKind::staged;
  int64_t kernel = 3;
};

/// The tail of a super-resolution network: features at low resolution to a picture `scale` times as
/// large, by convolutions whose channels are moved into space (pixel shuffle).
/// Shapes: x [batch, inputs, height, width] -> y [batch, outputs, scale height, scale width];
/// conv0, conv1, ... weight and bias of the convolutions in order.
/// Sources: Shi et al. 2016, arXiv 1609.05158; Lim et al. 2017, arXiv 1707.02921.
class SubPixelHeadImpl : public torch::nn::Module {
 public:
  explicit SubPixelHeadImpl(const SubPixelHeadOptions& options);
  torch::Tensor forward(const torch::Tensor& x);

  const SubPixelHeadOptions options;

 private:
  std::vector<torch::nn::Conv2d> convolutions_;
  std::vector<int64_t> factors_;  // of the shuffle after each convolution, 1 for none
};
TORCH_MODULE(SubPixelHead);

}  // namespace cajal

CAJAL_ENUM(cajal::SubPixelKind, {cajal::SubPixelKind::staged, "staged"},
           {cajal::SubPixelKind::direct, "direct"})

namespace cajal {
CAJAL_OPTIONS(SubPixelHeadOptions, inputs, outputs, scale, kind, kernel)
}  // namespace cajal
