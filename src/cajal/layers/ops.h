#pragma once
#include <utility>

#include "cajal/core/torch.h"
#include "cajal/neurons/activation.h"

// The few fused steps that transformers are made of. Each is plain libtorch on the CPU and a fused
// kernel with its own backward on CUDA; both forms are tested against each other.
namespace cajal::ops {

enum class NormKind { layer, rms, rms_one_plus };  // rms_one_plus: Gemma's x̂ (1 + w)

/// Layer or RMS norm over the last axis, computed in fp32; `weight` and `bias` may be undefined.
torch::Tensor norm(const torch::Tensor& x, NormKind kind, const torch::Tensor& weight,
                   const torch::Tensor& bias, double epsilon);

/// {x + delta, norm(x + delta)} in one pass over memory.
std::pair<torch::Tensor, torch::Tensor> add_norm(const torch::Tensor& x, const torch::Tensor& delta,
                                                 NormKind kind, const torch::Tensor& weight,
                                                 const torch::Tensor& bias, double epsilon);

/// law(pre + bias): pre [..., neurons], bias [neurons] or undefined.
torch::Tensor bias_activate(const torch::Tensor& pre, const torch::Tensor& bias, Activation law);

/// law(gate) * up, both [..., neurons].
torch::Tensor gated_activate(const torch::Tensor& gate, const torch::Tensor& up, Activation law);

/// Mean cross entropy: logits [rows, classes] in any float type, targets i64 [rows]; rows whose
/// target is -100 do not count. fp32 result.
torch::Tensor cross_entropy(const torch::Tensor& logits, const torch::Tensor& targets);

}  // namespace cajal::ops
