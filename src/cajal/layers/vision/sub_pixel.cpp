#include "cajal/layers/vision/sub_pixel.h"

#include "cajal/layers/layer.h"

namespace cajal {

SubPixelHeadImpl::SubPixelHeadImpl(const SubPixelHeadOptions& o) : options(o) {
  require(o.inputs > 0 && o.outputs > 0,
          "sub_pixel_head: inputs and outputs must be positive, got {} and {}", o.inputs,
          o.outputs);
  require(o.scale == 1 || o.scale == 2 || o.scale == 3 || o.scale == 4 || o.scale == 8,
          "sub_pixel_head: scale is {}, expected 1, 2, 3, 4 or 8", o.scale);
  require(o.kernel > 0 && o.kernel % 2 == 1, "sub_pixel_head: kernel is {}, expected an odd number",
          o.kernel);
  const auto add = [&](int64_t outputs, int64_t factor) {
    const auto shape = torch::nn::Conv2dOptions(o.inputs, outputs * factor * factor, o.kernel);
    convolutions_.push_back(
        register_module("conv" + std::to_string(convolutions_.size()),
                        torch::nn::Conv2d(torch::nn::Conv2dOptions(shape).padding(o.kernel / 2))));
    factors_.push_back(factor);
  };
  if (o.kind == SubPixelKind::direct) {
    add(o.outputs, o.scale);
    return;
  }
  if (o.scale == 3) add(o.inputs, 3);
  for (int64_t done = 1; done < o.scale && o.scale != 3; done *= 2) add(o.inputs, 2);
  add(o.outputs, 1);
}

torch::Tensor SubPixelHeadImpl::forward(const torch::Tensor& x) {
  auto y = x;
  for (size_t i = 0; i < convolutions_.size(); ++i) {
    y = convolutions_[i]->forward(y);
    if (factors_[i] > 1) y = torch::pixel_shuffle(y, factors_[i]);
  }
  return y;
}

namespace {
const auto registered = layers::add<SubPixelHead>(
    "sub_pixel_head", "super-resolution head: convolution and pixel shuffle",
    {.example = {.inputs = 4},
     .inputs = {{"x", "[batch, inputs, height, width]"}},
     .outputs = {{"y", "[batch, outputs, height_out, width_out]"}},
     .axes = {.sizes = {{"batch", 2}, {"height", 5}, {"width", 6}}, .rest = {}}});
}  // namespace
}  // namespace cajal
