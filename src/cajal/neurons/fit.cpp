#include "cajal/neurons/fit.h"

#include "cajal/core/error.h"
#include "cajal/kernels/laws.h"

namespace cajal {
namespace {
using torch::Tensor;

constexpr int64_t kNumerator = 6, kDenominator = 4, kPoints = 601;

/// Values of PAU at the points whose powers are 0 ... 5, and their derivatives by the parameters.
struct Pau {
  Tensor value, jacobian;  // [points], [points, 10]
  Pau(const Tensor& powers, const Tensor& parameters) {
    const auto q_powers = powers.slice(1, 1, 1 + kDenominator);
    const auto p = powers.matmul(parameters.slice(0, 0, kNumerator)),
               q = q_powers.matmul(parameters.slice(0, kNumerator)), d = 1 + q.abs();
    value = p / d;
    const auto by_b = (-value / d * q.sign()).unsqueeze(1) * q_powers;
    jacobian = torch::cat({powers / d.unsqueeze(1), by_b}, 1);
  }
};

}  // namespace

std::string PauFit::text() const {
  const auto& law = laws::at("pau");
  std::string out = "pau:";
  for (size_t i = 0; i < parameters.size(); ++i)
    out += fmt::format("{}{}={:.9g}", i == 0 ? "" : ",", law.parameters[i].name, parameters[i]);
  return out;
}

PauFit fit_pau(const std::function<Tensor(const Tensor&)>& f, double range) {
  constexpr int kRounds = 500;
  require(range > 0, "fit: range: expected a positive number, got {}", range);
  const torch::NoGradGuard no_grad;
  const auto x = torch::linspace(-range, range, kPoints, torch::kDouble);
  const auto y = f(x);
  require(y.sizes() == x.sizes() && torch::isfinite(y).all().item<bool>(),
          "fit: the function is not finite on all of [-{}, {}]", range, range);
  const auto powers = torch::pow(x.unsqueeze(1), torch::arange(kNumerator, torch::kDouble));
  std::vector<double> start;
  for (const auto& parameter : laws::at("pau").parameters) start.push_back(parameter.start);
  auto parameters = torch::tensor(start, torch::kDouble);
  Pau now(powers, parameters);
  double loss = (now.value - y).square().sum().item<double>(), damping = 1e-3;
  for (int i = 0; i < kRounds && damping < 1e12; ++i) {
    const auto normal = now.jacobian.t().matmul(now.jacobian);
    const auto slope = now.jacobian.t().matmul(y - now.value);
    const auto damped = normal + damping * torch::diag(normal.diagonal() + 1e-9);
    const auto tried = parameters + damped.inverse().matmul(slope);
    const Pau next(powers, tried);
    const double after = (next.value - y).square().sum().item<double>();
    if (!(after < loss)) {
      damping *= 4;
      continue;
    }
    parameters = tried, now = next, loss = after, damping = std::max(damping / 3, 1e-12);
  }
  PauFit out;
  const auto gap = (now.value - y).abs();
  out.parameters.assign(parameters.data_ptr<double>(),
                        parameters.data_ptr<double>() + parameters.numel());
  out.largest_gap = gap.max().item<double>();
  out.rms = gap.square().mean().sqrt().item<double>();
  return out;
}

}  // namespace cajal
