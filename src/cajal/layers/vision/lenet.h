#pragma once
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/linear.h>

#include <string>

#include "cajal/core/options.h"
#include "cajal/core/torch.h"
#include "cajal/neurons/elementwise.h"

namespace cajal {

enum class Pooling { average, max };

struct LeNetOptions {
  int64_t colours = 1;
  int64_t size = 28;  // height and width; below 32 the first convolution pads by 2
  int64_t classes = 10;
  std::string law = "tanh";
  Pooling pooling = Pooling::average;
};

/// LeNet-5: convolution to 6 channels 5 x 5, pool, to 16 channels 5 x 5, pool, then 120, 84 and
/// `classes` units; pools halve the picture.
/// Shapes: x [batch, colours, size, size] -> logits [batch, classes].
/// Source: LeCun et al. 1998, Gradient-based learning applied to document recognition.
class LeNetImpl : public torch::nn::Module {
 public:
  explicit LeNetImpl(const LeNetOptions& options);
  torch::Tensor forward(const torch::Tensor& x);

  const LeNetOptions options;

 private:
  torch::Tensor pool(const torch::Tensor& x) const;
  torch::nn::Conv2d first_{nullptr}, second_{nullptr};
  torch::nn::Linear third_{nullptr}, fourth_{nullptr}, last_{nullptr};
  std::vector<Elementwise> laws_;
};
TORCH_MODULE(LeNet);

}  // namespace cajal

CAJAL_ENUM(cajal::Pooling, {cajal::Pooling::average, "average"}, {cajal::Pooling::max, "max"})

namespace cajal {
CAJAL_OPTIONS(LeNetOptions, colours, size, classes, law, pooling)
}  // namespace cajal
