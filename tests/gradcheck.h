#pragma once
#include <algorithm>
#include <cmath>
#include <functional>
#include <vector>

#include "cajal/core/torch.h"

namespace cajal::testing {

/// The largest |central difference - autograd| over all elements of all `inputs` (double, leaves),
/// for the scalar sum(f() · w) with fixed pseudo-random weights w, so that errors cannot cancel.
/// Divided by max(1, |gradient|), so it reads as an error whatever the scale.
inline double gradient_error(const std::function<torch::Tensor()>& f,
                             std::vector<torch::Tensor> inputs, double step = 1e-5) {
  for (auto& input : inputs) {
    TORCH_CHECK(input.scalar_type() == torch::kDouble && input.is_contiguous());
    input.set_requires_grad(true);
  }
  const auto y = f();
  const auto weights =
      torch::sin(torch::arange(1, y.numel() + 1, y.options().requires_grad(false)) * 1.7)
          .reshape(y.sizes());
  const auto gradients = torch::autograd::grad({(y * weights).sum()}, inputs, {}, c10::nullopt,
                                               /*create_graph=*/false, /*allow_unused=*/true);
  const torch::NoGradGuard no_grad;
  double worst = 0;
  for (size_t i = 0; i < inputs.size(); ++i) {
    auto* values = inputs[i].data_ptr<double>();
    const auto gradient =
        gradients[i].defined() ? gradients[i].contiguous() : torch::zeros_like(inputs[i]);
    const auto* expected = gradient.data_ptr<double>();
    for (int64_t j = 0; j < inputs[i].numel(); ++j) {
      const double kept = values[j];
      values[j] = kept + step;
      const double above = (f() * weights).sum().item<double>();
      values[j] = kept - step;
      const double below = (f() * weights).sum().item<double>();
      values[j] = kept;
      const double difference = std::abs((above - below) / (2 * step) - expected[j]);
      const double error = difference / std::max(1.0, std::abs(expected[j]));
      if (!(error <= worst)) worst = error;  // keeps NaN
    }
  }
  return worst;
}

}  // namespace cajal::testing
