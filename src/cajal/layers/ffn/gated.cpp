#include "cajal/layers/ffn/gated.h"

#include "cajal/layers/init.h"
#include "cajal/layers/layer.h"

namespace cajal {

GatedFeedForwardImpl::GatedFeedForwardImpl(const GatedFeedForwardOptions& o) : options(o) {
  require(o.width > 0 && o.neurons > 0,
          "gated_feed_forward: width and neurons must be positive, got {} and {}", o.width,
          o.neurons);
  gate = register_parameter("gate", init::fan_in_uniform({o.neurons, o.width}));
  key = register_parameter("key", init::fan_in_uniform({o.neurons, o.width}));
  value = register_parameter("value", init::fan_in_uniform({o.neurons, o.width}, o.neurons));
  if (!o.bias) return;
  bias_gate = register_parameter("bias_gate", init::fan_in_uniform({o.neurons}, o.width));
  bias_key = register_parameter("bias_key", init::fan_in_uniform({o.neurons}, o.width));
  bias_value = register_parameter("bias_value", init::fan_in_uniform({o.width}, o.neurons));
}

torch::Tensor GatedFeedForwardImpl::forward(const torch::Tensor& x) const {
  require(x.dim() > 0 && x.size(-1) == options.width,
          "gated_feed_forward: x is {}, expected [..., width] with width = {}",
          shape_text(x.sizes()), options.width);
  const auto open = activate(options.law, torch::linear(x, gate, bias_gate));
  return torch::linear(open * torch::linear(x, key, bias_key), value.t(), bias_value);
}

namespace {
const auto registered =
    layers::add<GatedFeedForward>("gated_feed_forward", "gated feed-forward block (GLU family)",
                                  {.example = {.width = 64, .neurons = 256}});
}  // namespace
}  // namespace cajal
