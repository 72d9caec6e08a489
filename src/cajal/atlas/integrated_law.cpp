#include "cajal/atlas/integrated_law.h"

#include "cajal/core/error.h"
#include "cajal/math/quadrature.h"

namespace cajal::atlas {
namespace {

// Laws whose slope is smooth: near y = 0 the mean slope is a quadrature of it.
bool smooth(Activation law) {
  switch (law) {
    case Activation::gelu:
    case Activation::gelu_tanh:
    case Activation::quick_gelu:
    case Activation::silu:
    case Activation::mish:
    case Activation::softplus:
    case Activation::sigmoid:
    case Activation::tanh:
      return true;
    default:
      return false;
  }
}

// Where a law with kinks is one line from b to b + y, or the way too short to divide by: there the
// quotient would only round.
torch::Tensor straight(Activation law, const torch::Tensor& b, const torch::Tensor& y) {
  const auto z = b + y;
  if (law == Activation::identity) return torch::ones_like(z, torch::kBool);
  if (law == Activation::relu || law == Activation::leaky_relu) return (b > 0).eq(z > 0);
  return y.abs() < (y.scalar_type() == torch::kDouble ? 1e-6 : 1e-3);
}

template <class F>
torch::Tensor integrate(const torch::Tensor& b, const torch::Tensor& y, int nodes, F&& f) {
  const auto rule = math::gauss_legendre(nodes);
  torch::Tensor sum;
  for (size_t k = 0; k < rule.nodes.size(); ++k) {
    const auto part = f(b + rule.nodes[k] * y, rule.nodes[k]) * rule.weights[k];
    sum = sum.defined() ? sum + part : part;
  }
  return sum;
}

}  // namespace

bool vanishes_at_zero(Activation law) {
  return law != Activation::softplus && law != Activation::sigmoid &&
         law != Activation::hard_sigmoid;
}

torch::Tensor slope(Activation law, const torch::Tensor& x) {
  if (law == Activation::identity) return torch::ones_like(x);
  const torch::AutoGradMode gradient_on(true);
  const auto leaf = x.detach().clone().requires_grad_();
  return torch::autograd::grad({activate(law, leaf).sum()}, {leaf})[0];
}

torch::Tensor mean_slope(Activation law, const torch::Tensor& b, const torch::Tensor& y) {
  const auto z = b + y;
  const auto direct = (activate(law, z) - activate(law, b.expand_as(z))) / y;
  if (smooth(law)) {  // away from 0 the quotient loses nothing
    const auto near =
        integrate(b, y, 6, [&](const torch::Tensor& x, double) { return slope(law, x); });
    return torch::where(y.abs() < 0.05, near, direct);
  }
  const auto middle = slope(law, b + y / 2);
  return torch::where(straight(law, b, y), middle, direct);
}

torch::Tensor mean_value(Activation law, const torch::Tensor& b, const torch::Tensor& y) {
  if (law == Activation::identity) return b + y / 2;
  if (law == Activation::relu) {
    const auto across = (torch::relu(b + y).square() - torch::relu(b).square()) / (2 * y);
    return torch::where(straight(law, b, y), torch::relu(b + y / 2), across);
  }
  return integrate(b, y, 16, [&](const torch::Tensor& x, double) { return activate(law, x); });
}

GatedShares gated_shares(Activation law, const torch::Tensor& gate_bias, const torch::Tensor& gate,
                         const torch::Tensor& up_bias, const torch::Tensor& up) {
  const auto mean = mean_value(law, gate_bias, gate);
  // ∫ a law'(b + a g) da by parts: (law(b + g) - mean) / g, complete for any value of `mean`.
  const auto by_parts = (activate(law, gate_bias + gate) - mean) / gate;
  torch::Tensor near, use;
  if (smooth(law)) {
    near = integrate(gate_bias, gate, 16,
                     [&](const torch::Tensor& x, double a) { return slope(law, x) * a; });
    use = gate.abs() < 0.05;
  } else {
    near = slope(law, gate_bias + gate / 2) / 2;
    use = straight(law, gate_bias, gate);
  }
  const auto weighted = torch::where(use, near, by_parts);
  return {up_bias * mean_slope(law, gate_bias, gate) + up * weighted, mean};
}

}  // namespace cajal::atlas
