#include "cajal/math/polynomial.h"

#include "cajal/core/error.h"

namespace cajal::math {

torch::Tensor best_polynomial(const torch::Tensor& x, const torch::Tensor& y, int64_t weights) {
  constexpr int kRounds = 400;
  require(x.dim() == 1 && x.sizes() == y.sizes() && weights > 0 && x.numel() >= weights,
          "best polynomial: x {}, y {}, {} weights", shape_text(x.sizes()), shape_text(y.sizes()),
          weights);
  require(x.abs().max().item<double>() <= 1, "best polynomial: x leaves [-1, 1]");
  const auto powers =  // Chebyshev's polynomials, cos(k acos x)
      torch::cos(torch::acos(x).unsqueeze(1) * torch::arange(weights, torch::kDouble));
  auto share = torch::full_like(y, 1.0 / static_cast<double>(y.numel()));
  torch::Tensor fit;
  for (int i = 0; i < kRounds; ++i) {
    const auto weighted = powers * share.unsqueeze(1);
    const auto normal =
        torch::matmul(weighted.t(), powers) + 1e-13 * torch::eye(weights, torch::kDouble);
    fit = torch::matmul(powers, torch::matmul(normal.inverse(), torch::matmul(weighted.t(), y)));
    share = share * (fit - y).abs();
    share = share / share.sum().clamp_min(1e-300);  // 0 where the fit is exact
  }
  return fit;
}

}  // namespace cajal::math
