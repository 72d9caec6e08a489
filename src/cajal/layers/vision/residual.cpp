#include "cajal/layers/vision/residual.h"

#include <algorithm>

#include "cajal/layers/init.h"
#include "cajal/layers/layer.h"

namespace cajal {
namespace {

ConvNorm conv(int64_t inputs, int64_t outputs, int64_t kernel, int64_t stride, Activation law) {
  return ConvNorm(ConvNormOptions{inputs, outputs, kernel, stride, 1, law});
}

}  // namespace

ResidualBlockImpl::ResidualBlockImpl(const ResidualBlockOptions& o) : options(o) {
  require(o.inputs > 0 && o.outputs > 0 && o.stride > 0,
          "residual_block: inputs, outputs and stride must be positive, got {}, {} and {}",
          o.inputs, o.outputs, o.stride);
  first = register_module("first", conv(o.inputs, o.outputs, 3, o.stride, Activation::relu));
  second = register_module("second", conv(o.outputs, o.outputs, 3, 1, Activation::identity));
  if (o.inputs != o.outputs || o.stride != 1)
    shortcut =
        register_module("shortcut", conv(o.inputs, o.outputs, 1, o.stride, Activation::identity));
}

torch::Tensor ResidualBlockImpl::forward(const torch::Tensor& x) {
  const auto changed = second->forward(first->forward(x));
  return torch::relu(changed + (shortcut.is_empty() ? x : shortcut->forward(x)));
}

SqueezeExcitationImpl::SqueezeExcitationImpl(const SqueezeExcitationOptions& o) : options(o) {
  require(o.channels > 0 && o.squeezed > 0,
          "squeeze_excitation: channels and squeezed must be positive, got {} and {}", o.channels,
          o.squeezed);
  weight_1 = register_parameter("weight_1", init::fan_in_uniform({o.squeezed, o.channels}));
  bias_1 = register_parameter("bias_1", torch::zeros({o.squeezed}));
  weight_2 = register_parameter("weight_2", init::fan_in_uniform({o.channels, o.squeezed}));
  bias_2 = register_parameter("bias_2", torch::zeros({o.channels}));
}

torch::Tensor SqueezeExcitationImpl::forward(const torch::Tensor& x) const {
  require(
      x.dim() == 4 && x.size(1) == options.channels,
      "squeeze_excitation: x is {}, expected [batch, channels, height, width] with channels = {}",
      shape_text(x.sizes()), options.channels);
  const auto middle = torch::relu(torch::linear(x.mean({2, 3}), weight_1, bias_1));
  const auto gate = activate(Activation::hard_sigmoid, torch::linear(middle, weight_2, bias_2));
  return x * gate.unsqueeze(-1).unsqueeze(-1);
}

int64_t round_channels(double channels, int64_t unit) {
  const auto nearest =
      std::max(unit, static_cast<int64_t>(channels + static_cast<double>(unit) / 2) / unit * unit);
  return static_cast<double>(nearest) < 0.9 * channels ? nearest + unit : nearest;
}

InvertedResidualImpl::InvertedResidualImpl(const InvertedResidualOptions& o) : options(o) {
  require(o.inputs > 0 && o.outputs > 0 && o.expanded > 0 && o.kernel > 0 && o.stride > 0,
          "inverted_residual: inputs, outputs, expanded, kernel and stride must be positive, got "
          "{}, {}, {}, {} and {}",
          o.inputs, o.outputs, o.expanded, o.kernel, o.stride);
  const auto of = [](ConvNormOptions c) {
    c.epsilon = 1e-3, c.momentum = 0.01;  // MobileNetV3's batch norm
    return ConvNorm(c);
  };
  if (o.expanded != o.inputs)
    expand = register_module("expand", of({o.inputs, o.expanded, 1, 1, 1, o.law}));
  depthwise = register_module("depthwise",
                              of({o.expanded, o.expanded, o.kernel, o.stride, o.expanded, o.law}));
  if (o.squeeze) {
    const auto squeezed = round_channels(static_cast<double>(o.expanded) / 4);
    gate =
        register_module("gate", SqueezeExcitation(SqueezeExcitationOptions{o.expanded, squeezed}));
  }
  project = register_module("project", of({o.expanded, o.outputs, 1, 1, 1, Activation::identity}));
}

torch::Tensor InvertedResidualImpl::forward(const torch::Tensor& x) {
  auto h = expand.is_empty() ? x : expand->forward(x);
  h = depthwise->forward(h);
  if (!gate.is_empty()) h = gate->forward(h);
  h = project->forward(h);
  return options.stride == 1 && options.inputs == options.outputs ? h + x : h;
}

namespace {
const std::vector<layers::Port> kIn{{"x", "[batch, inputs, height, width]"}};
const std::vector<layers::Port> kOut{{"y", "[batch, outputs, rows, columns]"}};
const layers::Axes kAxes{{{"batch", 4}, {"height", 8}, {"width", 8}}, {}};

const auto basic = layers::add<ResidualBlock>("residual_block", "ResNet's basic block",
                                              {.example = {.inputs = 4, .outputs = 8, .stride = 2},
                                               .inputs = kIn,
                                               .outputs = kOut,
                                               .axes = kAxes});
const auto squeeze = layers::add<SqueezeExcitation>(
    "squeeze_excitation", "channels weighed by what all of them hold",
    {.example = {.channels = 8, .squeezed = 4},
     .inputs = {{"x", "[batch, channels, height, width]"}},
     .outputs = {{"y", "[batch, channels, height, width]"}},
     .axes = kAxes});
const auto inverted = layers::add<InvertedResidual>("inverted_residual", "MobileNetV3's block",
                                                    {.example = {.inputs = 4,
                                                                 .outputs = 4,
                                                                 .expanded = 16,
                                                                 .squeeze = true,
                                                                 .law = Activation::hard_swish},
                                                     .inputs = kIn,
                                                     .outputs = kOut,
                                                     .axes = kAxes});
}  // namespace
}  // namespace cajal
