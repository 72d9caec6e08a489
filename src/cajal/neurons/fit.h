#pragma once
#include <functional>
#include <string>
#include <vector>

#include "cajal/core/torch.h"

namespace cajal {

/// The law "pau" closest to a function.
struct PauFit {
  std::vector<double> parameters;  // a0 ... a5, b1 ... b4
  double largest_gap = 0, rms = 0;

  std::string text() const;  // "pau:a0=...,b4=...", as parse_elementwise takes it
};

/// Least squares over 601 points of [-range, range] by Levenberg's and Marquardt's method, from
/// PAU's own start; f takes and gives double [points]. Throws Error for a range that is not
/// positive or a function that is not finite there.
PauFit fit_pau(const std::function<torch::Tensor(const torch::Tensor&)>& f, double range = 3);

}  // namespace cajal
