#include "cajal/layers/ffn/dense.h"

#include "cajal/layers/init.h"
#include "cajal/layers/layer.h"

namespace cajal {

DenseFeedForwardImpl::DenseFeedForwardImpl(const DenseFeedForwardOptions& o) : options(o) {
  require(o.width > 0 && o.neurons > 0,
          "dense_feed_forward: width and neurons must be positive, got {} and {}", o.width,
          o.neurons);
  key = register_parameter("key", init::fan_in_uniform({o.neurons, o.width}));
  value = register_parameter("value", init::fan_in_uniform({o.neurons, o.width}, o.neurons));
  if (!o.bias) return;
  bias_key = register_parameter("bias_key", init::fan_in_uniform({o.neurons}, o.width));
  bias_value = register_parameter("bias_value", init::fan_in_uniform({o.width}, o.neurons));
}

torch::Tensor DenseFeedForwardImpl::forward(const torch::Tensor& x) const {
  require(x.dim() > 0 && x.size(-1) == options.width,
          "dense_feed_forward: x is {}, expected [..., width] with width = {}",
          shape_text(x.sizes()), options.width);
  const auto fired = activate(options.law, torch::linear(x, key, bias_key));
  return torch::linear(fired, value.t(), bias_value);
}

namespace {
const auto registered =
    layers::add<DenseFeedForward>("dense_feed_forward", "feed-forward block, one law of neurons",
                                  {.example = {.width = 64, .neurons = 256}});
}  // namespace
}  // namespace cajal
