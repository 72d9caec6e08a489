#include "cajal/surgery/inputs.h"

#include <algorithm>

#include "cajal/core/error.h"

namespace cajal::surgery {

FfnInput::FfnInput(const lm::Transformer& model, size_t layer) {
  const auto& config = model->config;
  const bool post = config.norm_place == lm::NormPlace::post;
  const auto& norm = post ? model->blocks[layer].norm1 : model->blocks[layer].norm2;
  point_ = fmt::format("blocks.{}.{}.hook_normalized", layer, post ? "ln1" : "ln2");
  if (norm.weight.defined())
    scale_ = norm.weight.to(torch::kFloat) + (config.norm == NormKind::rms_one_plus ? 1 : 0);
  if (norm.bias.defined()) shift_ = norm.bias.to(torch::kFloat);
}

torch::Tensor FfnInput::from_point(const torch::Tensor& value) const {
  auto x = value.to(torch::kFloat);
  if (scale_.defined()) x = x * scale_;
  return shift_.defined() ? x + shift_ : x;
}

torch::Tensor FfnInput::to_point(const torch::Tensor& x) const {
  auto value = shift_.defined() ? x - shift_ : x;
  // A feature that the norm scales to nothing reads as its shift whatever stands there.
  return scale_.defined() ? value / scale_.where(scale_ != 0, torch::ones_like(scale_)) : value;
}

void visit_inputs(lm::Transformer& model, std::span<const int32_t> ids, int64_t tokens,
                  const LayerVisitor& on_input, const LayerVisitor& on_residual) {
  const auto& config = model->config;
  require(!config.vision(), "errors are measured on text, this model reads images");
  const auto length = std::min<int64_t>({512, config.context, std::ssize(ids)});
  const auto count = std::min<int64_t>(tokens, std::ssize(ids)) / std::max<int64_t>(length, 1);
  require(count > 0 && length >= 2, "the calibration text has {} tokens, expected {} at least",
          ids.size(), std::max<int64_t>(2, length));
  lm::Hooks hooks;
  std::string last;
  for (size_t l = 0; l < model->blocks.size(); ++l) {
    const FfnInput input(model, l);
    hooks.add(last = input.point(), [&, input, l](std::string_view, const torch::Tensor& value) {
      const auto x = input.from_point(value);
      on_input(l, x.reshape({-1, x.size(-1)}));
      return torch::Tensor();
    });
    if (!on_residual) continue;
    hooks.add(last = fmt::format("blocks.{}.hook_resid_post", l),
              [&, l](std::string_view, const torch::Tensor& value) {
                on_residual(l, value.to(torch::kFloat).reshape({-1, value.size(-1)}));
                return torch::Tensor();
              });
  }
  hooks.stop_after(last);
  const auto input =
      torch::from_blob(const_cast<int32_t*>(ids.data()), {count, length}, torch::kInt)
          .to(torch::kLong);
  lm::Pass pass;
  pass.hooks = &hooks;
  torch::NoGradGuard no_grad;
  model->forward(input, pass);
}

}  // namespace cajal::surgery
