#pragma once
#include <functional>
#include <string>
#include <vector>

#include "cajal/core/options.h"
#include "cajal/core/torch.h"

namespace cajal {

/// The networks of the activation survey's benchmark, in the form for pictures of 32 pixels.
enum class BenchmarkNetKind {
  vgg16,         // thirteen 3 x 3 convolutions, pools between
  mobilenet_v1,  // depthwise and pointwise convolutions
  resnet18,
  resnet50,
  senet18,  // ResNet18 with squeeze and excitation, reduction 16
  googlenet,
  densenet121,  // growth 32
};

struct BenchmarkNetOptions {
  BenchmarkNetKind kind = BenchmarkNetKind::resnet18;
  std::string activation = "relu";  // a law ("prelu:per_channel"), "abrelu" or "identity"
  int64_t colours = 3;
  double width = 1;  // multiplies all widths
  int64_t classes = 10;
};
CAJAL_OPTIONS(BenchmarkNetOptions, kind, activation, colours, width, classes)

/// One of those networks with its activation swapped; batch norm after every convolution, no
/// biases before one. Shapes: x [batch, colours, height, width], 16 pixels or more a side -> logits
/// [batch, classes]. Throws Error for options that make no network.
/// Sources: arXiv 1409.1556, 1704.04861, 1512.03385, 1709.01507, 1409.4842, 1608.06993; dossier
/// activation-survey.
class BenchmarkNetImpl : public torch::nn::Module {
 public:
  explicit BenchmarkNetImpl(const BenchmarkNetOptions& options);
  torch::Tensor forward(const torch::Tensor& x);

  const BenchmarkNetOptions options;

 private:
  using Step = std::function<torch::Tensor(const torch::Tensor&)>;
  struct Convolution {
    int64_t in = 0, out = 0, kernel = 3, stride = 1, groups = 1;
  };

  std::string next_name(const char* kind);
  int64_t wide(int64_t full) const;  // a width times the multiplier
  Step convolution(const Convolution& shape);
  Step norm(int64_t channels);
  Step law(int64_t channels);
  Step conv_norm(const Convolution& shape);      // without the law
  Step conv_norm_law(const Convolution& shape);  // with it
  Step squeeze(int64_t channels);
  Step residual(int64_t in, int64_t inner, int64_t out, int64_t stride, bool bottleneck,
                bool squeezed);
  Step inception(int64_t in, const std::vector<int64_t>& widths);

  int64_t vgg16();  // each returns the channels that come out
  int64_t mobilenet_v1();
  int64_t residual_net(const std::vector<int64_t>& blocks, bool bottleneck, bool squeezed);
  int64_t googlenet();
  int64_t densenet121();

  std::vector<Step> steps_;
  Step last_;
  int64_t named_ = 0;
};
TORCH_MODULE(BenchmarkNet);

}  // namespace cajal

CAJAL_ENUM(cajal::BenchmarkNetKind, {cajal::BenchmarkNetKind::vgg16, "vgg16"},
           {cajal::BenchmarkNetKind::mobilenet_v1, "mobilenet_v1"},
           {cajal::BenchmarkNetKind::resnet18, "resnet18"},
           {cajal::BenchmarkNetKind::resnet50, "resnet50"},
           {cajal::BenchmarkNetKind::senet18, "senet18"},
           {cajal::BenchmarkNetKind::googlenet, "googlenet"},
           {cajal::BenchmarkNetKind::densenet121, "densenet121"})
