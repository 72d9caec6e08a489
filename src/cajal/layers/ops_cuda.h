#pragma once
#include <utility>
#include <vector>

#include "cajal/layers/ops.h"

// The CUDA side of ops.h: autograd functions around the kernels of kernels/cuda/transformer.h.
// ops.cpp asks `fits_*` first; what does not fit goes through plain libtorch.
namespace cajal::ops::fused {

#ifdef CAJAL_CUDA
constexpr bool available = true;
#else
constexpr bool available = false;
#endif

bool fits_rows(const torch::Tensor& x);  // bf16 on the GPU, contiguous, width a multiple of 8
bool fits_norm(const torch::Tensor& x);  // ... and not too wide for one block
bool fits_classes(const torch::Tensor& logits);
bool fits_law(Activation law);
bool fits_heads(const torch::Tensor& x, int64_t width, const torch::Tensor& cosine);

std::pair<torch::Tensor, torch::Tensor> add_norm(const torch::Tensor& x, const torch::Tensor& delta,
                                                 NormKind kind, const torch::Tensor& weight,
                                                 const torch::Tensor& bias, double epsilon,
                                                 const torch::Tensor& delta_bias);
torch::Tensor linear(const torch::Tensor& x, const torch::Tensor& weight,
                     const torch::Tensor& bias);
torch::Tensor linear_activate(const torch::Tensor& x, const torch::Tensor& weight,
                              const torch::Tensor& bias, Activation law);
torch::Tensor gated_linear(const torch::Tensor& x, const torch::Tensor& gate,
                           const torch::Tensor& up, Activation law);
Heads project_heads(const torch::Tensor& x, const std::vector<torch::Tensor>& weights,
                    const std::vector<torch::Tensor>& biases, int64_t heads, int64_t kv_heads,
                    const torch::Tensor& cosine, const torch::Tensor& sine);
torch::Tensor bias_activate(const torch::Tensor& pre, const torch::Tensor& bias, Activation law);
torch::Tensor gated_activate(const torch::Tensor& gate, const torch::Tensor& up, Activation law);
torch::Tensor cross_entropy(const torch::Tensor& logits, const torch::Tensor& targets);

}  // namespace cajal::ops::fused
