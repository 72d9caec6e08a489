#pragma once
#include "cajal/core/torch.h"

namespace cajal::math {

/// Values at x of the polynomial of `weights` coefficients whose largest distance from y is
/// smallest, by Lawson's weights; x in [-1, 1] and y are f64 [points].
/// Throws Error for x outside of that or fewer points than weights.
torch::Tensor best_polynomial(const torch::Tensor& x, const torch::Tensor& y, int64_t weights);

}  // namespace cajal::math
