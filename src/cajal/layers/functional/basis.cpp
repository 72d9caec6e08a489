#include "cajal/layers/functional/basis.h"

#include <cmath>

namespace cajal {
namespace {

using torch::Tensor;

/// Cubic B-splines by the recursion of de Boor on a clamped knot vector.
Tensor splines(int64_t functions, const Tensor& s) {
  require(functions >= 4, "basis: {} B-splines of order 4, expected four or more", functions);
  const int64_t inner = functions - 3;  // intervals
  const auto knot = [&](int64_t i) {
    return std::min(std::max(static_cast<double>(i - 3) / static_cast<double>(inner), 0.0), 1.0);
  };
  std::vector<Tensor> level;
  for (int64_t i = 0; i < functions + 3; ++i) {
    const double low = knot(i), high = knot(i + 1);
    auto in = (s >= low).logical_and(s < high);
    if (high == 1 && low < 1) in = in.logical_or(s == 1);
    level.push_back(in.to(torch::kDouble));
  }
  for (int64_t order = 2; order <= 4; ++order) {
    std::vector<Tensor> next;
    for (int64_t i = 0; i + order < functions + 4; ++i) {
      const double rise = knot(i + order - 1) - knot(i), fall = knot(i + order) - knot(i + 1);
      auto value = torch::zeros_like(s);
      if (rise > 0) value = value + (s - knot(i)) / rise * level[i];
      if (fall > 0) value = value + (knot(i + order) - s) / fall * level[i + 1];
      next.push_back(value);
    }
    level = std::move(next);
  }
  return torch::stack(level, 1);
}

}  // namespace

Tensor basis_at(Basis basis, int64_t functions, const Tensor& places) {
  require(functions > 0, "basis: functions must be positive, got {}", functions);
  const auto s = places.to(torch::kDouble);
  if (basis == Basis::bspline) return splines(functions, s);
  std::vector<Tensor> columns;
  for (int64_t i = 0; i < functions; ++i) {
    const auto n = static_cast<double>(i);
    if (basis == Basis::fourier) {
      columns.push_back(i == 0       ? torch::ones_like(s)
                        : i % 2 == 1 ? M_SQRT2 * torch::sin(M_PI * (n + 1) * s)
                                     : M_SQRT2 * torch::cos(M_PI * n * s));
    } else {
      const auto x = 2 * s - 1;
      columns.push_back(i == 0 ? torch::ones_like(x)
                        : i == 1
                            ? x
                            : ((2 * n - 1) * x * columns[i - 1] - (n - 1) * columns[i - 2]) / n);
    }
  }
  return torch::stack(columns, 1);
}

Tensor basis_matrix(Basis basis, int64_t functions, int64_t points) {
  require(points > 0, "basis: points must be positive, got {}", points);
  return basis_at(basis, functions, torch::linspace(0, 1, points, torch::kDouble));
}

Tensor trapezoid_weights(const Tensor& places) {
  const auto s = places.to(torch::kDouble);
  require(s.dim() == 1 && s.numel() >= 2,
          "quadrature: places are {}, expected two or more in a row", shape_text(s.sizes()));
  const auto width = s.diff();
  require((width > 0).all().item<bool>(), "quadrature: places must rise");
  const auto none = torch::zeros({1}, torch::kDouble);
  return (torch::cat({width, none}) + torch::cat({none, width})) / 2;
}

Tensor roughness_matrix(Basis basis, int64_t functions) {
  constexpr int64_t kPoints = 2001;
  const auto phi = basis_matrix(basis, functions, kPoints);
  const double step = 1.0 / (kPoints - 1);
  const auto second =
      (phi.slice(0, 2) - 2 * phi.slice(0, 1, -1) + phi.slice(0, 0, -2)) / (step * step);
  return torch::matmul(second.t(), second) * step;
}

double roughness(const Tensor& curves) {
  require(curves.size(0) >= 3, "roughness: {} points, expected three or more", curves.size(0));
  const auto w = curves.detach().to(torch::kDouble);
  const auto second = w.slice(0, 2) - 2 * w.slice(0, 1, -1) + w.slice(0, 0, -2);
  return second.square().mean().item<double>() / w.square().mean().item<double>();
}

}  // namespace cajal
