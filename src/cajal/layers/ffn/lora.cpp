#include "cajal/layers/ffn/lora.h"

#include "cajal/layers/init.h"
#include "cajal/layers/layer.h"

namespace cajal {

LoraLinearImpl::LoraLinearImpl(const LoraLinearOptions& o) : options(o) {
  require(o.inputs > 0 && o.outputs > 0 && o.rank > 0 && o.alpha >= 0,
          "lora_linear: inputs, outputs and rank must be positive and alpha not negative, got {}, "
          "{}, {} and {}",
          o.inputs, o.outputs, o.rank, o.alpha);
  weight = register_parameter("weight", init::fan_in_uniform({o.outputs, o.inputs}));
  if (o.bias) bias = register_parameter("bias", init::fan_in_uniform({o.outputs}, o.inputs));
  const auto made = make_low_rank(o.inputs, o.outputs, o.rank, o.alpha > 0);
  correction = {register_parameter("left", made.left), register_parameter("right", made.right)};
}

double LoraLinearImpl::scale() const {
  return options.alpha > 0 ? options.alpha / static_cast<double>(options.rank) : 1;
}

torch::Tensor LoraLinearImpl::forward(const torch::Tensor& x) const {
  require(x.dim() > 0 && x.size(-1) == options.inputs,
          "lora_linear: x is {}, expected [..., inputs] with inputs = {}", shape_text(x.sizes()),
          options.inputs);
  return torch::linear(x, weight, bias) + correction.apply(x) * scale();
}

torch::Tensor LoraLinearImpl::merged() const {
  return weight + torch::mm(correction.right, correction.left.t()) * scale();
}

namespace {
const auto registered =
    layers::add<LoraLinear>("lora_linear", "linear map with a correction of low rank (LoRA)",
                            {.example = {.inputs = 12, .outputs = 8, .rank = 2},
                             .inputs = {{"x", "[..., inputs]"}},
                             .outputs = {{"y", "[..., outputs]"}}});
}  // namespace
}  // namespace cajal
