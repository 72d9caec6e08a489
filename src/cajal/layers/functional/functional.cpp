#include "cajal/layers/functional/functional.h"

#include <cmath>

#include "cajal/layers/layer.h"
#include "cajal/neurons/elementwise.h"

namespace cajal {
namespace {

using torch::Tensor;

Tensor respond(const std::string& law, const Tensor& x) {
  if (law == "softmax") return torch::softmax(x, -1);
  if (law == "identity") return x;
  return Elementwise(parse_elementwise(law + (law.find(':') == law.npos ? ":fixed" : ",fixed")))
      ->forward(x);
}

void require_sizes(const char* who, int64_t points, int64_t channels, int64_t neurons,
                   int64_t functions, const std::string& law) {
  require(points > 0 && channels > 0 && neurons > 0 && functions > 0,
          "{}: points {}, channels {}, neurons {} and functions {} must be positive", who, points,
          channels, neurons, functions);
  if (law != "softmax") parse_elementwise(law);
}

void require_curves(const char* who, const Tensor& x, int64_t points, int64_t channels) {
  require(x.dim() == 3 && x.size(2) == channels && (points == 0 || x.size(1) == points),
          "{}: x is {}, expected [batch, {}, channels] with channels = {}", who,
          shape_text(x.sizes()), points == 0 ? "time" : fmt::format("points = {}", points),
          channels);
}

Tensor expand(const Tensor& basis, const Tensor& coefficients) {
  return torch::tensordot(basis.to(coefficients.options().requires_grad(false)), coefficients, {1},
                          {0});
}

Tensor started(torch::IntArrayRef sizes) { return 0.05 * torch::randn(sizes); }

}  // namespace

FunctionalDenseImpl::FunctionalDenseImpl(const FunctionalDenseOptions& o) : options(o) {
  require_sizes("functional_dense", o.points, o.channels, o.neurons, o.functions, o.law);
  require(o.times.empty() || static_cast<int64_t>(o.times.size()) == o.points,
          "functional_dense: {} times for {} points", o.times.size(), o.points);
  if (!o.times.empty()) trapezoid_weights(torch::tensor(o.times, torch::kDouble));
  weights(o.points);  // a basis that cannot be is refused here
  coefficients = register_parameter("coefficients", started({o.functions, o.channels, o.neurons}));
  if (o.bias_functions > 0)
    bias = register_parameter("bias", torch::zeros({o.bias_functions, o.neurons}));
}

Tensor FunctionalDenseImpl::weights(int64_t points) const {
  const auto basis = options.times.empty() ? basis_matrix(options.basis, options.functions, points)
                                           : basis_at(options.basis, options.functions,
                                                      torch::tensor(options.times, torch::kDouble));
  return coefficients.defined() ? expand(basis, coefficients) : basis;
}

Tensor FunctionalDenseImpl::forward(const Tensor& x) const {
  require_curves("functional_dense", x, options.points, options.channels);
  auto y = torch::einsum("btc,tck->btk", {x, weights()});
  if (bias.defined()) {
    const auto places = options.times.empty()
                            ? torch::linspace(0, 1, options.points, torch::kDouble)
                            : torch::tensor(options.times, torch::kDouble);
    y = y + expand(basis_at(options.basis, options.bias_functions, places), bias);
  }
  if (!options.pooling) return respond(options.law, y);
  if (options.times.empty()) return respond(options.law, y.mean(1));
  const auto quadrature =
      trapezoid_weights(torch::tensor(options.times, torch::kDouble)).to(y.options());
  return respond(options.law, (y * quadrature.unsqueeze(1)).sum(1));
}

FunctionalConvolutionImpl::FunctionalConvolutionImpl(const FunctionalConvolutionOptions& o)
    : options(o) {
  require_sizes("functional_convolution", o.points, o.channels, o.neurons, o.functions, o.law);
  require(o.bias_functions == 0 || o.bias_functions == 1,
          "functional_convolution: bias_functions is {}, expected 0 or 1 (a constant)",
          o.bias_functions);
  basis_matrix(o.basis, o.functions, o.points);
  coefficients = register_parameter("coefficients", started({o.functions, o.channels, o.neurons}));
  if (o.bias_functions > 0) bias = register_parameter("bias", torch::zeros({1, o.neurons}));
}

Tensor FunctionalConvolutionImpl::weights(double rate) const {
  const auto spacings = static_cast<double>(options.points - 1) * rate;
  const auto points = static_cast<int64_t>(std::llround(spacings)) + 1;
  return expand(basis_matrix(options.basis, options.functions, points), coefficients);
}

Tensor FunctionalConvolutionImpl::at_rate(const Tensor& x, double rate) const {
  require_curves("functional_convolution", x, 0, options.channels);
  const auto w = weights(rate);
  const int64_t points = w.size(0);
  auto curves = x.transpose(1, 2);  // [batch, channels, time]
  if (options.same) curves = at::constant_pad_nd(curves, {(points - 1) / 2, points / 2});
  require(curves.size(2) >= points,
          "functional_convolution: {} points in time, weight functions take {}", curves.size(2),
          points);
  auto y = torch::conv1d(curves, w.permute({2, 1, 0}).contiguous());
  if (options.integral) y = y / static_cast<double>(points);
  y = y.transpose(1, 2);
  if (bias.defined()) y = y + bias;
  if (!options.pooling) return respond(options.law, y);
  return options.pool_after ? respond(options.law, y).mean(1) : respond(options.law, y.mean(1));
}

FunctionalKernelImpl::FunctionalKernelImpl(const FunctionalKernelOptions& o) : options(o) {
  require_sizes("functional_kernel", o.points, o.channels, o.neurons, o.functions, o.law);
  require(o.points_out > 0 && o.functions_out > 0,
          "functional_kernel: points_out {} and functions_out {} must be positive", o.points_out,
          o.functions_out);
  basis_matrix(o.basis, o.functions, o.points),
      basis_matrix(o.basis, o.functions_out, o.points_out);
  coefficients = register_parameter("coefficients",
                                    started({o.functions_out, o.functions, o.channels, o.neurons}));
  if (o.bias_functions > 0)
    bias = register_parameter("bias", torch::zeros({o.bias_functions, o.neurons}));
}

Tensor FunctionalKernelImpl::forward(const Tensor& x) const {
  const auto& o = options;
  require_curves("functional_kernel", x, o.points, o.channels);
  const auto in = basis_matrix(o.basis, o.functions, o.points).to(x.options().requires_grad(false));
  const auto out =
      basis_matrix(o.basis, o.functions_out, o.points_out).to(x.options().requires_grad(false));
  const auto projected =
      torch::einsum("btc,ti->bic", {x, in}) / static_cast<double>(o.points);  // inner products
  auto y = torch::einsum("so,bok->bsk",
                         {out, torch::einsum("bic,oick->bok", {projected, coefficients})});
  if (bias.defined()) y = y + expand(basis_matrix(o.basis, o.bias_functions, o.points_out), bias);
  return respond(o.law, y);
}

Tensor normalise_curves(const Tensor& x) {
  const auto centred = x - x.mean(1, true);
  return centred / (centred.square().mean(1, true) + 1e-10).sqrt();
}

Tensor roughness_penalty(Basis basis, const Tensor& coefficients, double lambda) {
  const auto a = coefficients.flatten(1);
  const auto r = roughness_matrix(basis, coefficients.size(0)).to(a.options().requires_grad(false));
  return lambda * (a * torch::matmul(r, a)).sum();
}

namespace {

template <class Options>
Options example() {
  Options o;
  o.points = 7, o.channels = 2, o.neurons = 3, o.functions = 4;
  return o;
}
FunctionalKernelOptions kernel_example() {
  auto o = example<FunctionalKernelOptions>();
  o.points_out = 5, o.functions_out = 2;
  return o;
}
template <class Holder>
bool add(const char* name, const char* what, layers::OptionsOf<Holder> example, const char* in,
         const char* out) {
  layers::Declaration<layers::OptionsOf<Holder>> declared;
  declared.example = example;
  declared.inputs = {{"x", in}}, declared.outputs = {{"y", out}};
  declared.axes.sizes = {{"batch", 2}, {"time", 11}};
  return layers::add<Holder>(name, what, declared);
}

const bool registered[] = {
    add<FunctionalDense>("functional_dense", "weights as functions, pointwise or inner product",
                         example<FunctionalDenseOptions>(), "[batch, points, channels]",
                         "[batch, ...]"),
    add<FunctionalConvolution>(
        "functional_convolution", "convolution of curves with smooth weight functions",
        example<FunctionalConvolutionOptions>(), "[batch, time, channels]", "[batch, ...]"),
    add<FunctionalKernel>("functional_kernel", "integral operator with a smooth kernel",
                          kernel_example(), "[batch, points, channels]",
                          "[batch, points_out, neurons]"),
};

}  // namespace
}  // namespace cajal
