#pragma once
#include "cajal/core/torch.h"

/// Starting values of parameters, drawn from libtorch's generator.
namespace cajal::init {

/// Uniform in ±1/√fan_in: the spread that torch::nn::Linear starts with. `fan_in` is the number of
/// terms that each output sums, the last axis unless given.
torch::Tensor fan_in_uniform(torch::IntArrayRef sizes, int64_t fan_in = 0);

}  // namespace cajal::init
