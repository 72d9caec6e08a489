#pragma once
#include <functional>
#include <vector>

#include "cajal/core/torch.h"

namespace cajal::mixers {

/// softmax(scale q kᵀ) v with the future hidden, exact, which keeps only q, k and v for backward
/// and there makes the scores of `block` queries at a time anew: q, k, v [..., tokens, width].
torch::Tensor chunked_attention(const torch::Tensor& q, const torch::Tensor& k,
                                const torch::Tensor& v, double scale, int64_t block = 128);

/// f(x) of which only x is kept for backward, where f is computed again (activation checkpointing).
/// `anchor` is any tensor that requires a gradient: f may have parameters though x needs none.
torch::Tensor recomputed(const std::function<torch::Tensor(const torch::Tensor&)>& f,
                         const torch::Tensor& x, const torch::Tensor& anchor);

}  // namespace cajal::mixers
