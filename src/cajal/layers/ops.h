#pragma once
#include <utility>
#include <vector>

#include "cajal/core/torch.h"
#include "cajal/neurons/activation.h"

// The few fused steps that transformers are made of. Each is plain libtorch on the CPU and a fused
// kernel with its own backward on CUDA; both forms are tested against each other.
namespace cajal::ops {

using cajal::NormKind;

/// Layer or RMS norm over the last axis, computed in fp32; `weight` and `bias` may be undefined.
torch::Tensor norm(const torch::Tensor& x, NormKind kind, const torch::Tensor& weight,
                   const torch::Tensor& bias, double epsilon);

/// {x + delta + delta_bias, norm of it} in one pass over memory; `delta_bias` [width] is the bias
/// of the matrix that made delta, or undefined.
std::pair<torch::Tensor, torch::Tensor> add_norm(const torch::Tensor& x, const torch::Tensor& delta,
                                                 NormKind kind, const torch::Tensor& weight,
                                                 const torch::Tensor& bias, double epsilon,
                                                 const torch::Tensor& delta_bias = {});

/// x Wᵀ + b: x [..., inputs], weight [outputs, inputs], bias [outputs] or undefined.
torch::Tensor linear(const torch::Tensor& x, const torch::Tensor& weight,
                     const torch::Tensor& bias);

/// law(x Wᵀ + b): x [..., inputs], weight [outputs, inputs], bias [outputs] or undefined.
torch::Tensor linear_activate(const torch::Tensor& x, const torch::Tensor& weight,
                              const torch::Tensor& bias, Activation law);

/// law(x Gᵀ) * (x Uᵀ): x [..., inputs], gate and up [outputs, inputs].
torch::Tensor gated_linear(const torch::Tensor& x, const torch::Tensor& gate,
                           const torch::Tensor& up, Activation law);

struct Heads {
  torch::Tensor q, k, v;  // [batch, heads or kv_heads, tokens, width]
};

/// Queries, keys and values of x [batch, tokens, inputs]: one projection through the given weights
/// [outputs, inputs] stacked (q, k and v, or one that holds all), with biases [outputs] or
/// undefined, cut into heads; q and k turned by RoPE (half-split pairs) over their first 2 x angles
/// dimensions where cosine and sine, fp32 [tokens, angles], are defined.
Heads project_heads(const torch::Tensor& x, const std::vector<torch::Tensor>& weights,
                    const std::vector<torch::Tensor>& biases, int64_t heads, int64_t kv_heads,
                    const torch::Tensor& cosine, const torch::Tensor& sine);

/// law(pre + bias): pre [..., neurons], bias [neurons] or undefined.
torch::Tensor bias_activate(const torch::Tensor& pre, const torch::Tensor& bias, Activation law);

/// law(gate) * up, both [..., neurons].
torch::Tensor gated_activate(const torch::Tensor& gate, const torch::Tensor& up, Activation law);

/// Mean cross entropy: logits [rows, classes] in any float type, targets i64 [rows]; rows whose
/// target is -100 do not count. fp32 result.
torch::Tensor cross_entropy(const torch::Tensor& logits, const torch::Tensor& targets);

}  // namespace cajal::ops
