#include "cajal/layers/pade/conv.h"

#include <cmath>

#include "cajal/layers/layer.h"

namespace cajal {

using torch::Tensor;

torch::Tensor pad(const Tensor& x, int64_t width, Padding mode) {
  if (width == 0) return x;
  static constexpr const char* kModes[] = {"constant", "reflect", "replicate", "circular"};
  const int64_t most = std::min(x.size(-1), x.size(-2));
  require(mode != Padding::reflect || width < most,
          "padding of {} by reflection does not fit {} pixels", width, most);
  require(mode != Padding::circular || width <= most,
          "circular padding of {} does not fit {} pixels", width, most);
  return at::pad(x, {width, width, width, width}, kModes[static_cast<int>(mode)]);
}

PowerConv2dImpl::PowerConv2dImpl(const PadeConv2dOptions& o, int64_t degree, bool linear_start)
    : options_(o), degree_(degree) {
  const int64_t in = o.inputs / o.groups;
  const auto start = [&](std::vector<int64_t> shape, int64_t fan_in, bool all) {
    const double bound = std::sqrt(3.0 / static_cast<double>(fan_in));
    auto values = torch::zeros(shape);
    (all ? values : values[0]).uniform_(-bound, bound);
    return values;
  };
  const int64_t area = o.kernel * o.kernel;
  const bool directions = o.weight_norm;  // a direction is never zero, its length is
  if (o.separable) {
    point = register_parameter("point", start({degree, o.outputs, in}, in, true));
    auto kernel = start({degree, o.outputs, 1, o.kernel, o.kernel}, area, directions);
    if (!linear_start && !directions) kernel = pade_start(o.form, kernel.sizes());
    weight = register_parameter("weight", kernel);
  } else {
    auto kernel = start({degree, o.outputs, in, o.kernel, o.kernel}, in * area, directions);
    if (!linear_start && !directions) kernel = pade_start(o.form, kernel.sizes());
    weight = register_parameter("weight", kernel);
  }
  if (!o.weight_norm) return;
  auto norms = pade_start(o.form, {degree, o.outputs});
  if (linear_start) norms.zero_();
  if (linear_start) norms[0].copy_(weight.detach()[0].flatten(1).norm(2, 1));
  length = register_parameter("length", norms);
}

Tensor PowerConv2dImpl::kernels() const {
  if (!length.defined()) return weight;
  const auto norm = weight.flatten(2).norm(2, 2);
  return weight * (length / norm).reshape({degree_, options_.outputs, 1, 1, 1});
}

/// Padded first, because a power of what is padded is what pads the power.
Tensor PowerConv2dImpl::stacked_powers(const Tensor& x) const {
  const bool zeros = options_.padding_mode == Padding::zeros;
  return torch::cat(powers(zeros ? x : pad(x, reach(), options_.padding_mode), degree_), 1);
}

Tensor PowerConv2dImpl::convolve(const Tensor& stacked, const Tensor& kernels, const Tensor& bias,
                                 int64_t groups) const {
  const bool zeros = options_.padding_mode == Padding::zeros;
  return torch::conv2d(stacked, kernels, bias, options_.stride, zeros ? reach() : 0, 1, groups);
}

std::vector<Tensor> PowerConv2dImpl::forward(const Tensor& x) const {
  auto stacked = stacked_powers(x);
  int64_t groups = degree_ * options_.groups;
  if (point.defined()) {
    const int64_t unpadded = 0;
    stacked = torch::conv2d(stacked, point.flatten(0, 1).unsqueeze(-1).unsqueeze(-1), {}, 1,
                            unpadded, 1, groups);
    groups = degree_ * options_.outputs;
  }
  return convolve(stacked, kernels().flatten(0, 1), {}, groups).chunk(degree_, 1);
}

Tensor PowerConv2dImpl::sum(const Tensor& x, const Tensor& constant) const {
  if (point.defined() || options_.groups > 1) {
    auto sum = constant.reshape({-1, 1, 1});
    for (const auto& term : forward(x)) sum = sum + term;
    return sum;
  }
  return convolve(stacked_powers(x), kernels().transpose(0, 1).flatten(1, 2), constant, 1);
}

std::pair<std::vector<Tensor>, std::vector<Tensor>> PowerConv2dImpl::beside(
    const PowerConv2dImpl& other, const Tensor& x) const {
  const auto both = torch::cat({kernels(), other.kernels()}, 1).flatten(0, 1);
  std::pair<std::vector<Tensor>, std::vector<Tensor>> out;
  for (const auto& terms : convolve(stacked_powers(x), both, {}, degree_).chunk(degree_, 1)) {
    const auto halves = terms.chunk(2, 1);
    out.first.push_back(halves[0]), out.second.push_back(halves[1]);
  }
  return out;
}

namespace {

ShiftOptions shift_options(const PadeConv2dOptions& o) {
  return {.channels = o.inputs,
          .kind = o.shift_range > 0 ? ShiftKind::free : ShiftKind::predicted,
          .range = o.shift_range,
          .learn = true,
          .round = o.shift_round,
          .padding = SamplePadding::border,
          .average = o.shift_average};
}

Tensor w0_start(int64_t outputs, int64_t fan_in) {
  const double bound = 1 / std::sqrt(static_cast<double>(fan_in));
  return torch::empty({outputs}).uniform_(-bound, bound);
}

void require_images(const char* who, const Tensor& x, int64_t channels) {
  require(x.dim() == 4 && x.size(1) == channels,
          "{}: x is {}, expected [batch, inputs, height, width] with inputs = {}", who,
          shape_text(x.sizes()), channels);
}

}  // namespace

PadeConv2dImpl::PadeConv2dImpl(const PadeConv2dOptions& o) : options(o) {
  require(o.inputs > 0 && o.outputs > 0 && o.kernel > 0 && o.stride > 0 && o.groups > 0,
          "pade_conv2d: inputs {}, outputs {}, kernel {}, stride {} and groups {} must be positive",
          o.inputs, o.outputs, o.kernel, o.stride, o.groups);
  require(o.inputs % o.groups == 0 && o.outputs % o.groups == 0,
          "pade_conv2d: {} inputs and {} outputs do not divide into {} groups", o.inputs, o.outputs,
          o.groups);
  require_degrees("pade_conv2d", o.numerator, o.denominator);
  if (o.numerator > 0) numerator = register_module("numerator", PowerConv2d(o, o.numerator, true));
  if (o.denominator > 0)
    denominator = register_module("denominator", PowerConv2d(o, o.denominator, false));
  w0 = register_parameter("w0", w0_start(o.outputs, o.inputs / o.groups * o.kernel * o.kernel));
  if (o.shift_range >= 0) shift = register_module("shift", Shift(shift_options(o)));
}

Tensor PadeConv2dImpl::forward(const Tensor& x) {
  const auto& o = options;
  require_images("pade_conv2d", x, o.inputs);
  const auto moved = shift ? shift->forward(x) : x;
  if (denominator.is_empty()) return numerator->sum(moved, w0);
  const auto constant = w0.reshape({-1, 1, 1});
  if (o.numerator == o.denominator && o.groups == 1 && !o.separable) {
    const auto [above, below] = numerator->beside(*denominator, moved);
    return pade(o.form, above, below, constant);
  }
  return pade(o.form, numerator ? numerator->forward(moved) : std::vector<Tensor>{},
              denominator->forward(moved), constant);
}

Tensor PadeConv2dImpl::divisor(const Tensor& x) {
  require(!denominator.is_empty(), "pade_conv2d: denominator degree 0 has no divisor");
  return pade_divisor(options.form, denominator->forward(shift ? shift->forward(x) : x));
}

PadeConvTranspose2dImpl::PadeConvTranspose2dImpl(const PadeConvTranspose2dOptions& o) : options(o) {
  require(o.inputs > 0 && o.outputs > 0 && o.kernel > 0 && o.stride > 0,
          "pade_conv_transpose2d: inputs {}, outputs {}, kernel {} and stride {} must be positive",
          o.inputs, o.outputs, o.kernel, o.stride);
  require(o.output_padding >= 0 && o.output_padding < o.stride,
          "pade_conv_transpose2d: output_padding is {}, expected 0 to below stride {}",
          o.output_padding, o.stride);
  require_degrees("pade_conv_transpose2d", o.numerator, o.denominator);
  const int64_t fan_in = o.inputs * o.kernel * o.kernel;
  if (o.numerator > 0) {
    auto start = torch::zeros({o.numerator, o.inputs, o.outputs, o.kernel, o.kernel});
    const double bound = std::sqrt(3.0 / static_cast<double>(fan_in));
    start[0].uniform_(-bound, bound);
    a = register_parameter("a", start);
  }
  if (o.denominator > 0)
    b = register_parameter("b",
                           torch::zeros({o.denominator, o.inputs, o.outputs, o.kernel, o.kernel}));
  w0 = register_parameter("w0", w0_start(o.outputs, fan_in));
}

Tensor PadeConvTranspose2dImpl::forward(const Tensor& x) const {
  const auto& o = options;
  require_images("pade_conv_transpose2d", x, o.inputs);
  const int64_t width = o.padding < 0 ? o.kernel / 2 : o.padding;
  const auto terms = [&](const Tensor& weight) -> std::vector<Tensor> {
    if (!weight.defined()) return {};
    const int64_t degree = weight.size(0);
    return at::conv_transpose2d(torch::cat(powers(x, degree), 1), weight.flatten(0, 1), {},
                                o.stride, width, o.output_padding, degree)
        .chunk(degree, 1);
  };
  return pade(o.form, terms(a), terms(b), w0.reshape({-1, 1, 1}));
}

namespace {
PadeConv2dOptions polynomial(const GenerativeConv2dOptions& o) {
  return {.inputs = o.inputs,
          .outputs = o.outputs,
          .kernel = o.kernel,
          .numerator = o.order,
          .denominator = 0,
          .form = PadeForm::a,
          .stride = o.stride,
          .padding = o.padding,
          .padding_mode = o.padding_mode,
          .shift_range = o.shift_range};
}
}  // namespace

GenerativeConv2dImpl::GenerativeConv2dImpl(const GenerativeConv2dOptions& o) : options(o) {
  neuron = register_module("neuron", PadeConv2d(polynomial(o)));
}
Tensor GenerativeConv2dImpl::forward(const Tensor& x) { return torch::tanh(neuron->forward(x)); }

SuperConv2dImpl::SuperConv2dImpl(const SuperConv2dOptions& o) : options(o) {
  require(o.shift_range >= 0, "super_conv2d: shift_range is {}, expected 0 or more", o.shift_range);
  neuron = register_module("neuron", PadeConv2d(polynomial(o)));
}
Tensor SuperConv2dImpl::forward(const Tensor& x) { return torch::tanh(neuron->forward(x)); }

QuadraticConv2dImpl::QuadraticConv2dImpl(const QuadraticConv2dOptions& o) : options(o) {
  neuron =
      register_module("neuron", PadeConv2d(polynomial({o.inputs, o.outputs, o.kernel, 2, o.stride,
                                                       o.padding, o.padding_mode, -1})));
}
Tensor QuadraticConv2dImpl::forward(const Tensor& x) { return neuron->forward(x); }

namespace {

template <class Holder>
layers::Declaration<layers::OptionsOf<Holder>> on_images() {
  layers::OptionsOf<Holder> example;
  example.inputs = 3, example.outputs = 4;
  return {.example = example,
          .inputs = {{"x", "[batch, inputs, height, width]"}},
          .outputs = {{"y", "[batch, outputs, height_out, width_out]"}},
          .axes = {.sizes = {{"batch", 2}, {"height", 6}, {"width", 7}}, .rest = {}}};
}
template <class Holder>
layers::Declaration<layers::OptionsOf<Holder>> on_features() {
  layers::OptionsOf<Holder> example;
  example.inputs = 5, example.outputs = 4;
  return {
      .example = example, .inputs = {{"x", "[..., inputs]"}}, .outputs = {{"y", "[..., outputs]"}}};
}

const bool registered[] = {
    layers::add<PadeLinear>("pade_linear", "Padé neurons (Paon): ratios of learned polynomials",
                            on_features<PadeLinear>()),
    layers::add<GenerativeLinear>("generative_linear", "generative neurons (Self-ONN)",
                                  on_features<GenerativeLinear>()),
    layers::add<QuadraticLinear>("quadratic_linear", "quadratic neurons",
                                 on_features<QuadraticLinear>()),
    layers::add<PadeConv2d>("pade_conv2d", "convolution of Padé neurons (Paon)",
                            on_images<PadeConv2d>()),
    layers::add<PadeConvTranspose2d>("pade_conv_transpose2d",
                                     "transposed convolution of Padé neurons (Paon)",
                                     on_images<PadeConvTranspose2d>()),
    layers::add<GenerativeConv2d>("generative_conv2d",
                                  "convolution of generative neurons (Self-ONN)",
                                  on_images<GenerativeConv2d>()),
    layers::add<SuperConv2d>("super_conv2d",
                             "convolution of super neurons (shifted generative ones)",
                             on_images<SuperConv2d>()),
    layers::add<QuadraticConv2d>("quadratic_conv2d", "convolution of quadratic neurons",
                                 on_images<QuadraticConv2d>()),
};

}  // namespace
}  // namespace cajal
