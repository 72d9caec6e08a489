#include "cajal/layers/ffn/forward_forward.h"

#include "cajal/layers/init.h"
#include "cajal/layers/layer.h"

namespace cajal {

ForwardForwardLayerImpl::ForwardForwardLayerImpl(const ForwardForwardLayerOptions& o) : options(o) {
  require(o.inputs > 0 && o.outputs > 0,
          "forward_forward_layer: inputs and outputs must be positive, got {} and {}", o.inputs,
          o.outputs);
  require(o.epsilon > 0, "forward_forward_layer: epsilon must be positive, got {}", o.epsilon);
  weight = register_parameter("weight", init::fan_in_uniform({o.outputs, o.inputs}));
  bias = register_parameter("bias", init::fan_in_uniform({o.outputs}, o.inputs));
}

torch::Tensor ForwardForwardLayerImpl::forward(const torch::Tensor& x) const {
  require(x.dim() > 0 && x.size(-1) == options.inputs,
          "forward_forward_layer: x is {}, expected [..., inputs] with inputs = {}",
          shape_text(x.sizes()), options.inputs);
  const auto direction = options.normalize ? x / x.norm(2, -1, true).clamp_min(options.epsilon) : x;
  return activate(options.law, torch::linear(direction, weight, bias));
}

namespace {
const auto registered = layers::add<ForwardForwardLayer>(
    "forward_forward_layer", "dense layer on the direction of its input, trained by its goodness",
    {.example = {.inputs = 64, .outputs = 32},
     .inputs = {{"x", "[..., inputs]"}},
     .outputs = {{"y", "[..., outputs]"}}});
}  // namespace
}  // namespace cajal
