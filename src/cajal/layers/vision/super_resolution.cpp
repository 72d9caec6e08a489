#include "cajal/layers/vision/super_resolution.h"

#include <limits>

#include "cajal/layers/layer.h"
#include "cajal/math/picture.h"
#include "cajal/neurons/elementwise.h"

namespace cajal {

using torch::Tensor;

SuperResolutionImpl::SuperResolutionImpl(const SuperResolutionOptions& o) : options(o) {
  require(o.colours > 0 && o.channels > 0 && o.blocks >= 0 && o.order > 0,
          "super_resolution: colours {}, channels {} and order {} must be positive, blocks {} not "
          "negative",
          o.colours, o.channels, o.order, o.blocks);
  const int64_t c = o.channels;
  const auto convolution = [](int64_t in, int64_t out) {
    return torch::nn::Conv2d(torch::nn::Conv2dOptions(in, out, 3).padding(1));
  };
  head_ = register_module("head", convolution(o.colours, c));
  const auto keep = [&](const std::string& name, auto module) {
    register_module(name, module);
    neurons_.push_back([module](const Tensor& x) mutable { return module->forward(x); });
  };
  for (int64_t i = 0; i < 2 * o.blocks; ++i) {
    const auto name = fmt::format("block{}_{}", i / 2, i % 2);
    switch (o.neuron) {
      case SuperResolutionNeuron::relu:
      case SuperResolutionNeuron::pau: {
        const auto module = register_module(name, convolution(c, c));
        if (i % 2 == 1) {
          neurons_.push_back([module](const Tensor& x) mutable { return module->forward(x); });
          break;
        }
        const bool relu = o.neuron == SuperResolutionNeuron::relu;
        const auto law = register_module(
            name + "_law",
            Elementwise(parse_elementwise(relu ? "relu" : "pau_terms:per_channel", c)));
        neurons_.push_back(
            [module, law](const Tensor& x) mutable { return law->forward(module->forward(x)); });
        break;
      }
      case SuperResolutionNeuron::pade_a:
      case SuperResolutionNeuron::pade_s: {
        const auto form = o.neuron == SuperResolutionNeuron::pade_a ? PadeForm::a : PadeForm::s;
        const PadeConv2d module(PadeConv2dOptions{.inputs = c,
                                                  .outputs = c,
                                                  .numerator = o.numerator,
                                                  .denominator = o.denominator,
                                                  .form = form});
        if (o.denominator > 0) pades_.push_back(module);
        keep(name, module);
        break;
      }
      case SuperResolutionNeuron::generative:
        keep(name, GenerativeConv2d(
                       GenerativeConv2dOptions{.inputs = c, .outputs = c, .order = o.order}));
        break;
      case SuperResolutionNeuron::super_neuron: {
        SuperConv2dOptions super;
        super.inputs = c, super.outputs = c, super.order = o.order;
        keep(name, SuperConv2d(super));
        break;
      }
      case SuperResolutionNeuron::quadratic:
        keep(name, QuadraticConv2d(QuadraticConv2dOptions{.inputs = c, .outputs = c}));
        break;
    }
  }
  tail_ = register_module("tail", SubPixelHead(SubPixelHeadOptions{
                                      .inputs = c, .outputs = o.colours, .scale = o.scale}));
}

Tensor SuperResolutionImpl::forward(const Tensor& x) {
  require(x.dim() == 4 && x.size(1) == options.colours,
          "super_resolution: x is {}, expected [batch, colours, height, width] with colours = {}",
          shape_text(x.sizes()), options.colours);
  const auto features = head_->forward(x);
  auto y = features;
  for (size_t i = 0; i + 1 < neurons_.size(); i += 2) y = y + neurons_[i + 1](neurons_[i](y));
  const auto picture = tail_->forward(y + features);
  if (!options.picture_skip) return picture;
  return picture + math::resize_bicubic(x, x.size(2) * options.scale, x.size(3) * options.scale);
}

double SuperResolutionImpl::smallest_divisor(const Tensor& x) {
  const torch::NoGradGuard no_grad;
  double smallest = pades_.empty() ? 1 : std::numeric_limits<double>::infinity();
  auto y = head_->forward(x);
  for (size_t i = 0; i + 1 < neurons_.size(); i += 2) {
    const auto middle = neurons_[i](y);
    if (!pades_.empty())
      smallest = std::min({smallest, pades_[i]->divisor(y).min().item<double>(),
                           pades_[i + 1]->divisor(middle).min().item<double>()});
    y = y + neurons_[i + 1](middle);
  }
  return smallest;
}

double SuperResolutionImpl::work_per_pixel() const {
  double low = 0, high = 0;  // multiplications at low resolution, and at that of the picture
  for (const auto& parameter : named_parameters()) {
    const auto& weight = parameter.value();
    if (weight.dim() < 4) continue;
    const bool last =
        parameter.key() == "tail.conv" + std::to_string(options.scale == 4 ? 2 : 1) + ".weight";
    (last ? high : low) += static_cast<double>(weight.numel());
  }
  return low + high * static_cast<double>(options.scale * options.scale);
}

namespace {
const auto registered = layers::add<SuperResolution>(
    "super_resolution", "residual super-resolution network of Padé neurons or their rivals",
    {.example = {.channels = 4, .blocks = 1},
     .inputs = {{"x", "[batch, colours, height, width]"}},
     .outputs = {{"y", "[batch, colours, height_out, width_out]"}},
     .axes = {.sizes = {{"batch", 2}, {"height", 6}, {"width", 7}}, .rest = {}}});
}  // namespace
}  // namespace cajal
