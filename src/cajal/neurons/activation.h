#pragma once
#include "cajal/core/torch.h"
#include "cajal/kernels/activation.h"

namespace cajal {

/// law(x) for every element, in x's shape, type and device; differentiable.
torch::Tensor activate(Activation law, const torch::Tensor& x);

}  // namespace cajal
