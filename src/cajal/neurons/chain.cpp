#include <iterator>

#include "cajal/neurons/elementwise.h"

namespace cajal {
namespace {
/// A tensor as a number of the laws.
namespace chain {

using torch::Tensor;

Tensor Constant(const Tensor& like, double value) { return torch::full({}, value, like.options()); }
Tensor Positive(const Tensor& which, const Tensor& yes, const Tensor& no) {
  return torch::where(which > 0, yes, no);
}
Tensor Exp(const Tensor& a) { return torch::exp(torch::clamp_max(a, 88.5)); }
Tensor Expm1(const Tensor& a) { return torch::expm1(torch::clamp_max(a, 88.5)); }
Tensor Log(const Tensor& a) { return torch::log(a); }
Tensor Log1p(const Tensor& a) { return torch::log1p(a); }
Tensor Sqrt(const Tensor& a) { return torch::sqrt(a); }
Tensor Tanh(const Tensor& a) { return torch::tanh(a); }
Tensor Sin(const Tensor& a) { return torch::sin(a); }
Tensor Cos(const Tensor& a) { return torch::cos(a); }
Tensor Atan(const Tensor& a) { return torch::atan(a); }
Tensor Erf(const Tensor& a) { return torch::erf(a); }
Tensor NormalCdf(const Tensor& a) { return torch::erfc(a * -0.7071067811865476) * 0.5; }
Tensor Sigmoid(const Tensor& a) { return torch::sigmoid(a); }
Tensor Softplus(const Tensor& a) { return torch::softplus(a, 1, 40); }

#include "cajal/kernels/laws/every-inl.h"

template <class L>
Tensor Value(const Tensor& x, const Tensor* p) {
  return L::Value(x, p);
}

template <class... L>
Tensor ValueOf(Laws<L...>, int law, const Tensor& x, const Tensor* p) {
  static constexpr decltype(&Value<Identity>) kTable[] = {&Value<L>...};
  return kTable[law](x, p);
}

}  // namespace chain
}  // namespace

torch::Tensor apply_law_as_chain(const laws::Law& law, const torch::Tensor& x,
                                 const torch::Tensor& parameters, int64_t axis) {
  std::vector<torch::Tensor> p;
  if (!law.parameters.empty()) {
    require(parameters.defined(), "{}: its parameters are missing", law.name);
    std::vector<int64_t> shape(static_cast<size_t>(x.dim()), 1);
    if (parameters.dim() == 2) shape.at(static_cast<size_t>(axis < 0 ? axis + x.dim() : axis)) = -1;
    for (const auto& one : parameters.unbind(0))
      p.push_back(parameters.dim() == 2 ? one.reshape(shape) : one);
  }
  return chain::ValueOf(chain::EveryLaw{}, law.index, x, p.data());
}

}  // namespace cajal
