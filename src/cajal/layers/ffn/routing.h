#pragma once
#include "cajal/core/torch.h"

/// Rules that choose, for each token, the blocks of a sparse memory that it reads.
namespace cajal::routing {

/// What a rule chose for each row: blocks i64 [rows, k], best first, and the weight of each,
/// [rows, k] or undefined for ones; `loss` [] is what the rule asks to be added to training.
struct Selection {
  torch::Tensor blocks, weights, loss;
};

/// The k blocks with the highest `scores` [rows, blocks]; no weights.
Selection top(const torch::Tensor& scores, int64_t k);

/// Mean key of each block, [blocks, width], summed in fp32: key [cells, width], `block` cells each.
torch::Tensor mean_keys(const torch::Tensor& key, int64_t block);

/// Switch: the most probable block of softmax(logits), weighed by that probability. With `capacity`
/// > 0 a block takes ceil(capacity · rows / blocks) rows in their order, and rows beyond that have
/// weight 0. Loss: `weight` · N Σ f_i P_i.
/// Source: Fedus et al. 2021, arXiv 2101.03961, equations 1 to 6.
Selection switched(const torch::Tensor& logits, double capacity, double weight);

/// Noisy top-k: softmax over the k largest of clean + noise, noise ~ N(0, deviation²) where
/// `deviation` [rows, blocks] is defined. Loss: importance · CV(Σ gates)² + load · CV(load)², load
/// the expected count under the noise (without noise, or with k = blocks, the count, which has no
/// gradient). Source: Shazeer et al. 2017, arXiv 1701.06538, section 2.1 and appendix A.
Selection noisy_top(const torch::Tensor& clean, const torch::Tensor& deviation, int64_t k,
                    double importance, double load);

/// `k` distinct blocks for each of `ids` ids, drawn once: i64 [ids, k], the same on every machine.
torch::Tensor random_table(int64_t ids, int64_t blocks, int64_t k, uint64_t seed);

/// Rows of a table of `buckets` for ids i64 [..., tokens]: the id itself for n = 1, else a hash of
/// the id and the n - 1 before it on the last axis (before the first stands 0).
torch::Tensor bucket(const torch::Tensor& ids, int64_t n, int64_t buckets);

}  // namespace cajal::routing
