#include "cajal/layers/vision/goodness_head.h"

#include "cajal/layers/init.h"
#include "cajal/layers/layer.h"

namespace cajal {

GoodnessHeadImpl::GoodnessHeadImpl(const GoodnessHeadOptions& o) : options(o) {
  require(o.channels > 0 && o.classes > 0 && o.kernel > 0,
          "goodness_head: channels, classes and kernel must be positive, got {}, {} and {}",
          o.channels, o.classes, o.kernel);
  require(o.form != GoodnessForm::moments || o.kernel == 1,
          "goodness_head: form 'moments' takes kernel 1, got {}", o.kernel);
  const auto fan_in = o.channels * o.kernel * o.kernel;
  weight = register_parameter(
      "weight", init::fan_in_uniform({o.classes, o.channels, o.kernel, o.kernel}, fan_in));
  bias = register_parameter("bias", init::fan_in_uniform({o.classes}, fan_in));
}

torch::Tensor GoodnessHeadImpl::forward(const torch::Tensor& x) const {
  require(x.dim() == 4 && x.size(1) == options.channels,
          "goodness_head: x is {}, expected [batch, channels, height, width] with channels = {}",
          shape_text(x.sizes()), options.channels);
  const auto positions = x.size(2) * x.size(3), width = options.channels + 1;
  const bool cheaper = width * width * positions + options.classes * width * width <
                       options.classes * width * positions;
  if (options.form == GoodnessForm::moments ||
      (options.form == GoodnessForm::automatic && options.kernel == 1 && cheaper))
    return by_moments(x);
  return torch::conv2d(x, weight, bias, 1, options.kernel / 2).square().mean({2, 3});
}

torch::Tensor GoodnessHeadImpl::by_moments(const torch::Tensor& x) const {
  const auto rows = x.flatten(2);  // [batch, channels, positions]
  const auto n = static_cast<double>(rows.size(2));
  const auto second = rows.bmm(rows.transpose(1, 2)) / n;  // [batch, channels, channels]
  const auto first = rows.mean(2);                         // [batch, channels]
  const auto w = weight.flatten(1);                        // [classes, channels]
  const auto squares = (second.matmul(w.t()) * w.t()).sum(1);
  return squares + 2 * bias * torch::linear(first, w) + bias.square();
}

namespace {
const auto registered =
    layers::add<GoodnessHead>("goodness_head", "goodness of every class of a convolutional block",
                              {.example = {.channels = 4, .classes = 3},
                               .inputs = {{"x", "[batch, channels, height, width]"}},
                               .outputs = {{"y", "[batch, classes]"}},
                               .axes = {{{"batch", 2}, {"height", 6}, {"width", 5}}, {}}});
}  // namespace
}  // namespace cajal
