#include "cajal/layers/vision/precortical.h"

#include <cmath>

#include "cajal/data/image.h"
#include "cajal/layers/layer.h"
#include "cajal/layers/vision/depthwise.h"
#include "cajal/math/picture.h"
#include "cajal/neurons/elementwise.h"

namespace cajal {

using torch::Tensor;

PrecorticalImpl::PrecorticalImpl(const PrecorticalOptions& o) : options(o) {
  require(o.channels > 0, "precortical: channels must be positive, got {}", o.channels);
  require(o.kernel > 0 && o.kernel % 2 == 1, "precortical: kernel is {}, expected an odd number",
          o.kernel);
  require(o.sigma_centre > 0 && o.sigma_surround > 0 && o.sigma_pool > 0,
          "precortical: sigmas {}, {} and {} must be positive", o.sigma_centre, o.sigma_surround,
          o.sigma_pool);
  require(o.epsilon >= 0, "precortical: epsilon is {}, expected 0 or more", o.epsilon);
  require(laws::at(o.law).parameters.empty(),
          "precortical: law '{}' has parameters, expected one without", o.law);
  if (o.front == FrontEnd::fixed) return;
  const auto kernel = [&] {
    const std::vector<int64_t> shape = {o.channels, o.kernel, o.kernel};
    if (o.start == KernelStart::random) {
      const double bound = 1.0 / static_cast<double>(o.kernel);
      return torch::empty(shape).uniform_(-bound, bound);
    }
    const auto centre = math::gaussian_kernel(o.sigma_centre, o.kernel / 2);
    const auto surround = math::gaussian_kernel(o.sigma_surround, o.kernel / 2);
    const auto difference = (centre - surround).to(torch::kFloat);
    return (difference + 0.01 * torch::randn(shape)).contiguous();
  };
  weight1 = register_parameter("weight1", kernel());
  weight2 = register_parameter("weight2", kernel());
  if (o.front == FrontEnd::zero_sum) return;
  bias1 = register_parameter("bias1", torch::zeros({o.channels}));
  bias2 = register_parameter("bias2", torch::zeros({o.channels}));
}

Tensor PrecorticalImpl::applied_kernel(int stage) const {
  require(weight1.defined() && (stage == 1 || stage == 2),
          "precortical: front end {} has no kernel {}", to_name(options.front), stage);
  const auto& weight = stage == 1 ? weight1 : weight2;
  return options.front == FrontEnd::zero_sum ? weight - weight.mean({1, 2}, true) : weight;
}

Tensor PrecorticalImpl::stage(int which, const Tensor& x) const {
  const auto mode = options.padding_mode.value_or(
      options.front == FrontEnd::learned ? Padding::zeros : Padding::reflect);
  const auto& bias = which == 1 ? bias1 : bias2;
  auto response = depthwise_convolution(pad(x, options.kernel / 2, mode), applied_kernel(which));
  if (bias.defined()) response = response + bias.view({-1, 1, 1});
  return apply_law(laws::at(options.law), response);
}

Tensor PrecorticalImpl::forward(const Tensor& x) const {
  require(x.dim() == 4 && x.size(1) == options.channels,
          "precortical: x is {}, expected [batch, channels, height, width] with channels = {}",
          shape_text(x.sizes()), options.channels);
  Tensor y;
  if (options.front == FrontEnd::fixed) {
    const auto r = blur(x, options.sigma_centre) - blur(x, options.sigma_surround);
    const auto energy = blur(r.square(), options.sigma_pool);
    const auto epsilon = options.relative_epsilon
                             ? options.epsilon * r.square().mean({2, 3}, true)
                             : torch::full({}, options.epsilon, x.options().requires_grad(false));
    // Where there is no energy at all there is no response either: 0, not 0 / 0.
    const auto under = energy + epsilon;
    y = torch::where(under > 0, r / torch::where(under > 0, under, under + 1).sqrt(), r * 0);
  } else {
    y = stage(2, stage(1, x));
  }
  return options.on_off ? torch::cat({torch::relu(y), torch::relu(-y)}, 1) : y;
}

Tensor blur(const Tensor& x, double sigma) {
  const auto radius = static_cast<int64_t>(std::ceil(4 * sigma));
  const auto at = torch::arange(-radius, radius + 1, x.options().requires_grad(false));
  auto one = torch::exp(at.square() * (-0.5 / (sigma * sigma)));
  one = (one / one.sum()).reshape({1, 1, -1});
  require(radius < x.size(-1) && radius < x.size(-2),
          "blur: a Gaussian of deviation {} reaches {} pixels, the picture is {}", sigma, radius,
          shape_text(x.sizes()));
  const auto planes = at::pad(x.reshape({-1, 1, x.size(-2), x.size(-1)}),
                              {radius, radius, radius, radius}, "reflect");
  const auto rows = depthwise_convolution(planes, one);
  return depthwise_convolution(rows, one.transpose(1, 2)).reshape(x.sizes());
}

Tensor orientation_map(const Tensor& picture, int64_t angles, double sigma) {
  require(picture.dim() == 2 && angles > 0,
          "orientation_map: picture is {}, expected [height, width]", shape_text(picture.sizes()));
  const auto smooth = blur(picture.to(torch::kDouble).unsqueeze(0).unsqueeze(0), sigma);
  const auto wide = at::pad(smooth, {1, 1, 1, 1}, "reflect")[0][0];
  const auto middle = [&](int64_t axis) { return wide.slice(axis, 1, wide.size(axis) - 1); };
  const auto rows = middle(1), columns = middle(0);
  const auto dy = (rows.slice(0, 2) - rows.slice(0, 0, -2)) / 2;
  const auto dx = (columns.slice(1, 2) - columns.slice(1, 0, -2)) / 2;
  std::vector<Tensor> responses;
  for (int64_t k = 0; k < angles; ++k) {
    const double theta = M_PI * static_cast<double>(k) / static_cast<double>(angles);
    responses.push_back((dy * std::cos(theta) - dx * std::sin(theta)).abs());
  }
  return torch::stack(responses).argmax(0);
}

Tensor kernel_balance(const Tensor& kernels) {
  return kernels.sum({1, 2}).abs() / kernels.abs().sum({1, 2});
}

void write_kernels(const std::filesystem::path& path, const Tensor& kernels) {
  require(kernels.dim() == 3, "kernels are {}, expected [channels, height, width]",
          shape_text(kernels.sizes()));
  constexpr int64_t kZoom = 8;
  const auto scaled = 0.5 + 0.5 * kernels / kernels.abs().amax({1, 2}, true).clamp_min(1e-12);
  const auto large = (scaled * 255).round().repeat_interleave(kZoom, 1).repeat_interleave(kZoom, 2);
  const auto row = torch::cat(large.unbind(0), 1).to(torch::kCPU, torch::kLong).contiguous();
  data::Image image{.width = row.size(1), .height = row.size(0), .channels = 1, .samples = {}};
  const auto* values = row.data_ptr<int64_t>();
  image.samples.assign(values, values + row.numel());
  data::write_pnm(path, image);
}

namespace {
bool add() {
  layers::Declaration<PrecorticalOptions> declared;
  declared.example.channels = 2;
  declared.inputs = {{"x", "[batch, channels, height, width]"}};
  declared.outputs = {{"y", "[batch, channels_out, height, width]"}};
  declared.axes.sizes = {{"batch", 2}, {"height", 20}, {"width", 18}};
  return layers::add<Precortical>(
      "precortical", "retina and LGN before a vision network: learned, zero-sum or fixed",
      declared);
}
const auto registered = add();
}  // namespace
}  // namespace cajal
