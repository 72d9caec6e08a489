#include "cajal/neurons/pade.h"

#include <cmath>

namespace cajal {
namespace {

using torch::Tensor;

/// The sum of the first `count` terms, undefined for none.
Tensor sum_of(const std::vector<Tensor>& terms, size_t count) {
  Tensor sum;
  for (size_t i = 0; i < count; ++i) sum = sum.defined() ? sum + terms[i] : terms[i];
  return sum;
}

Tensor polynomial(const std::vector<Tensor>& terms, size_t count, const Tensor& constant) {
  const auto sum = sum_of(terms, count);
  return sum.defined() ? sum + constant : constant;
}

Tensor one_plus(const std::vector<Tensor>& terms, size_t count) {
  return polynomial(terms, count, torch::ones({}, terms[0].options().requires_grad(false)));
}

}  // namespace

void require_degrees(const char* who, int64_t numerator, int64_t denominator) {
  require(numerator >= 0 && denominator >= 0 && numerator <= 16 && denominator <= 16 &&
              numerator + denominator > 0,
          "{}: degrees are [{}/{}], expected 0 to 16 and not both 0", who, numerator, denominator);
}

std::vector<Tensor> powers(const Tensor& x, int64_t degree) {
  std::vector<Tensor> out;
  for (int64_t k = 1; k <= degree; ++k) out.push_back(k == 1 ? x : out.back() * x);
  return out;
}

Tensor pade_divisor(PadeForm form, const std::vector<Tensor>& denominator) {
  const size_t n = denominator.size();
  if (form == PadeForm::a) {
    std::vector<Tensor> sizes;
    for (const auto& term : denominator) sizes.push_back(term.abs());
    return one_plus(sizes, n);
  }
  const auto q = one_plus(denominator, n);
  if (form == PadeForm::s) return q.square() + one_plus(denominator, n - 1).square();
  return torch::where(q.abs() < 1e-6, torch::where(q < 0, q * 0 - 1e-6, q * 0 + 1e-6), q);
}

Tensor pade(PadeForm form, const std::vector<Tensor>& numerator,
            const std::vector<Tensor>& denominator, const Tensor& w0) {
  const size_t m = numerator.size(), n = denominator.size();
  const auto p = polynomial(numerator, m, w0);
  if (n == 0) return p;
  if (form != PadeForm::s) return p / pade_divisor(form, denominator);
  const auto q = one_plus(denominator, n);
  if (n == 1) {  // Q_0 = 1
    const auto top = m == 0 ? q * p : q * p + polynomial(numerator, m - 1, w0);
    return top / (q.square() + 1);
  }
  const auto lower = one_plus(denominator, n - 1);
  const auto top = m == 0 ? q * p : q * p + lower * polynomial(numerator, m - 1, w0);
  return top / (q.square() + lower.square());
}

Tensor pade_start(PadeForm form, torch::IntArrayRef sizes) {
  const double bound = form == PadeForm::a ? 1e-9 : 0;
  return torch::empty(sizes).uniform_(-bound, bound);
}

PadeLinearImpl::PadeLinearImpl(const PadeLinearOptions& o) : options(o) {
  require(o.inputs > 0 && o.outputs > 0,
          "pade_linear: inputs and outputs must be positive, got {} and {}", o.inputs, o.outputs);
  require_degrees("pade_linear", o.numerator, o.denominator);
  const double fan_in = static_cast<double>(o.inputs);
  if (o.numerator > 0) {
    auto start = torch::zeros({o.numerator, o.outputs, o.inputs});
    start[0].uniform_(-std::sqrt(3 / fan_in), std::sqrt(3 / fan_in));
    a = register_parameter("a", start);
  }
  if (o.denominator > 0)
    b = register_parameter("b", pade_start(o.form, {o.denominator, o.outputs, o.inputs}));
  w0 = register_parameter(
      "w0", torch::empty({o.outputs}).uniform_(-1 / std::sqrt(fan_in), 1 / std::sqrt(fan_in)));
}

namespace {
std::vector<Tensor> terms(const std::vector<Tensor>& x, const Tensor& weight) {
  std::vector<Tensor> out;
  if (weight.defined())
    for (int64_t k = 0; k < weight.size(0); ++k)
      out.push_back(torch::matmul(x[static_cast<size_t>(k)], weight[k].t()));
  return out;
}
}  // namespace

Tensor PadeLinearImpl::forward(const Tensor& x) const {
  require(x.dim() > 0 && x.size(-1) == options.inputs,
          "pade_linear: x is {}, expected [..., inputs] with inputs = {}", shape_text(x.sizes()),
          options.inputs);
  const auto powered = powers(x, std::max(options.numerator, options.denominator));
  return pade(options.form, terms(powered, a), terms(powered, b), w0);
}

Tensor PadeLinearImpl::divisor(const Tensor& x) const {
  require(b.defined(), "pade_linear: a neuron of denominator degree 0 has no divisor");
  return pade_divisor(options.form, terms(powers(x, options.denominator), b));
}

GenerativeLinearImpl::GenerativeLinearImpl(const GenerativeLinearOptions& o) : options(o) {
  neuron = register_module(
      "neuron", PadeLinear(PadeLinearOptions{o.inputs, o.outputs, o.order, 0, PadeForm::a}));
}
Tensor GenerativeLinearImpl::forward(const Tensor& x) { return torch::tanh(neuron->forward(x)); }

QuadraticLinearImpl::QuadraticLinearImpl(const QuadraticLinearOptions& o) : options(o) {
  neuron = register_module("neuron",
                           PadeLinear(PadeLinearOptions{o.inputs, o.outputs, 2, 0, PadeForm::a}));
}
Tensor QuadraticLinearImpl::forward(const Tensor& x) { return neuron->forward(x); }

}  // namespace cajal
