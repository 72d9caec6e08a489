#pragma once
#include "cajal/train/optimizer.h"

// The CUDA side of parameters.cpp and optimizer.cpp: kernels/cuda/optimizer.h bound to tensors.
namespace cajal::train::fused {

#ifdef CAJAL_CUDA
constexpr bool available = true;
#else
constexpr bool available = false;
#endif

void gather(FlatParameters& parameters, double factor, bool add);
void clip(const torch::Tensor& gradient, double limit, torch::Tensor& norm_and_factor);
/// AdamW on [begin, size) of the parameters; the average moves over all of them.
void adamw(FlatParameters& parameters, Optimizer& state, const Options& options, int64_t begin,
           const torch::Tensor& rates, const torch::Tensor& norm_and_factor);

}  // namespace cajal::train::fused
