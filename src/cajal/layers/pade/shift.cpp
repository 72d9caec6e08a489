#include "cajal/layers/pade/shift.h"

#include "cajal/layers/layer.h"

namespace cajal {

using torch::Tensor;

ShiftImpl::ShiftImpl(const ShiftOptions& o) : options(o) {
  require(o.channels > 0, "pade_shift: channels must be positive, got {}", o.channels);
  if (o.kind == ShiftKind::free) {
    require(o.range > 0, "pade_shift: range must be positive for free shifts, got {}", o.range);
    auto start = torch::empty({o.channels, 2}).uniform_(-o.range, o.range);
    if (o.round) start.round_();
    shift = o.learn ? register_parameter("shift", start) : register_buffer("shift", start);
    return;
  }
  weight = register_parameter("weight", torch::zeros({2 * o.channels, o.channels}));
  bias = register_parameter("bias", torch::zeros({2 * o.channels}));
  slope = register_parameter("slope", torch::full({2 * o.channels}, 0.25));
  if (o.average == ShiftAverage::running)
    running_mean = register_buffer("running_mean", torch::zeros({o.channels}));
}

Tensor ShiftImpl::offsets(const Tensor& x) {
  if (options.kind == ShiftKind::free) {
    const auto own = options.learn ? shift.clamp(-options.range, options.range) : shift;
    return options.round ? own.round() : own;
  }
  Tensor mean = x.mean({2, 3});  // [batch, channels]
  if (options.average != ShiftAverage::image) mean = mean.mean(0, /*keepdim=*/true);
  if (options.average == ShiftAverage::running) {
    if (is_training()) {
      const torch::NoGradGuard no_grad;
      running_mean.lerp_(mean.detach()[0], 0.1);
    } else {
      mean = running_mean.unsqueeze(0);
    }
  }
  const auto out = torch::prelu(torch::linear(mean, weight, bias), slope);
  const auto shaped = out.reshape({-1, options.channels, 2});
  const auto own = options.average == ShiftAverage::image ? shaped : shaped[0];
  return options.round ? own.round() : own;
}

Tensor ShiftImpl::forward(const Tensor& x) {
  require(x.dim() == 4 && x.size(1) == options.channels,
          "pade_shift: x is {}, expected [batch, channels, height, width] with channels = {}",
          shape_text(x.sizes()), options.channels);
  const int64_t batch = x.size(0), channels = x.size(1), height = x.size(2), width = x.size(3);
  const auto moved = offsets(x).to(x.scalar_type());
  // One grid for all images of a channel, or one for each image and channel.
  const bool shared = moved.dim() == 2;
  const auto planes = shared ? x.transpose(0, 1) : x.reshape({batch * channels, 1, height, width});
  const auto flat = moved.reshape({-1, 2});
  const auto size =
      torch::tensor({2.0 / static_cast<double>(width), 2.0 / static_cast<double>(height)},
                    x.options().requires_grad(false));
  const auto axes = torch::eye(2, x.options().requires_grad(false)).expand({flat.size(0), 2, 2});
  const auto transform = torch::cat({axes, (flat * size).unsqueeze(2)}, 2);
  const auto grid =
      at::affine_grid_generator(transform, planes.sizes().vec(), /*align_corners=*/false);
  const auto sampled =
      at::grid_sampler(planes, grid, /*bilinear=*/0, static_cast<int64_t>(options.padding),
                       /*align_corners=*/false);
  return shared ? sampled.transpose(0, 1).contiguous() : sampled.reshape(x.sizes());
}

namespace {
const auto registered = layers::add<Shift>(
    "pade_shift", "shifts each channel by its own sub-pixel offset (super neurons)",
    {.example = {.channels = 3},
     .inputs = {{"x", "[batch, channels, height, width]"}},
     .outputs = {{"y", "[batch, channels, height, width]"}},
     .axes = {.sizes = {{"batch", 2}, {"height", 6}, {"width", 7}}, .rest = {}}});
}  // namespace
}  // namespace cajal
