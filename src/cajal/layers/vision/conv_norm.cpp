#include "cajal/layers/vision/conv_norm.h"

#include <cmath>

#include "cajal/layers/layer.h"

namespace cajal {

ConvNormImpl::ConvNormImpl(const ConvNormOptions& o) : options(o) {
  require(o.inputs > 0 && o.outputs > 0 && o.kernel > 0 && o.stride > 0 && o.groups > 0,
          "conv_norm: inputs, outputs, kernel, stride and groups must be positive, got {}, {}, {}, "
          "{} and {}",
          o.inputs, o.outputs, o.kernel, o.stride, o.groups);
  require(o.inputs % o.groups == 0 && o.outputs % o.groups == 0,
          "conv_norm: {} groups do not divide {} inputs and {} outputs", o.groups, o.inputs,
          o.outputs);
  // He's normal start for ReLU layers, by outputs as ResNets have it.
  const auto fan = static_cast<double>(o.kernel * o.kernel * o.outputs / o.groups);
  weight = register_parameter(
      "weight",
      torch::randn({o.outputs, o.inputs / o.groups, o.kernel, o.kernel}) * std::sqrt(2 / fan));
  gain = register_parameter("gain", torch::ones({o.outputs}));
  shift = register_parameter("shift", torch::zeros({o.outputs}));
  mean = register_buffer("mean", torch::zeros({o.outputs}));
  variance = register_buffer("variance", torch::ones({o.outputs}));
}

torch::Tensor ConvNormImpl::forward(const torch::Tensor& x) {
  require(x.dim() == 4 && x.size(1) == options.inputs,
          "conv_norm: x is {}, expected [batch, inputs, height, width] with inputs = {}",
          shape_text(x.sizes()), options.inputs);
  const auto y = torch::conv2d(x, weight, {}, options.stride, options.kernel / 2, /*dilation=*/1,
                               options.groups);
  return activate(options.law,
                  torch::batch_norm(y, gain, shift, mean, variance, is_training(), options.momentum,
                                    options.epsilon, /*cudnn_enabled=*/true));
}

namespace {
const auto registered =
    layers::add<ConvNorm>("conv_norm", "convolution, batch norm, law",
                          {.example = {.inputs = 4, .outputs = 8},
                           .inputs = {{"x", "[batch, inputs, height, width]"}},
                           .outputs = {{"y", "[batch, outputs, rows, columns]"}},
                           .axes = {{{"batch", 4}, {"height", 8}, {"width", 8}}, {}}});
}  // namespace
}  // namespace cajal
