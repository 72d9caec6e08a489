#pragma once
#include "cajal/core/torch.h"
#include "cajal/kernels/sparse_rows.h"

/// Attention over a few keys a query: lists of keys, and the products that read only those. Heads
/// are the leading axis of everything, [batch x heads]; fp32 and double, on the CPU.
namespace cajal::mixers {

/// The keys of each query: a sparse matrix in rows.
struct KeyLists {
  torch::Tensor places;  // i32 [heads, queries, most], ascending; past the count anything
  torch::Tensor counts;  // i32 [heads, queries]

  int64_t most() const { return places.size(-1); }
  /// bool [heads, queries, keys]: what is in the lists.
  torch::Tensor dense(int64_t keys) const;
};

/// q_i · k_j for the listed pairs, [heads, queries, most] with zeros past the counts (SDDMM):
/// q [heads, queries, width], k [heads, keys, width].
torch::Tensor listed_products(const torch::Tensor& q, const torch::Tensor& k,
                              const KeyLists& lists);

/// Softmax over each list: values [heads, queries, most] -> the same, zeros past the counts.
torch::Tensor listed_softmax(const torch::Tensor& values, const KeyLists& lists);

/// Σ_j p_ij v_j over the listed keys (SpMM): p [heads, queries, most], v [heads, keys, width] ->
/// [heads, queries, width].
torch::Tensor listed_sum(const torch::Tensor& p, const torch::Tensor& v, const KeyLists& lists);

/// softmax(clamp(scale q kᵀ, -clamp, clamp)) v over the listed keys in one pass; clamp 0 = none.
/// Keeps for backward only q, k, v, the lists and a number a query; an empty list gives zeros.
torch::Tensor listed_attention(const torch::Tensor& q, const torch::Tensor& k,
                               const torch::Tensor& v, const KeyLists& lists, double scale,
                               double clamp);

/// Mean share of the full softmax(scale q kᵀ) that the listed keys hold, over queries that see more
/// keys than a list holds; with `causal` the future has no share. NaN where there is none.
double listed_mass(const torch::Tensor& q, const torch::Tensor& k, const KeyLists& lists,
                   double scale, bool causal);

/// Which keys may be listed and how many.
struct ListOptions {
  int64_t most = 1;
  int64_t sink = 0;       // the first so many keys are always listed
  bool keep_self = true;  // and so is the query's own
  bool causal = true;     // keys up to the query's own place; the last query stands at the last key
};

/// By how many codes equal the query's: codes u8 [heads, queries or keys, spaces]; `usable` u8
/// [batch, keys] (0 = padding) or undefined, for heads / batch heads each.
KeyLists lists_by_codes(const torch::Tensor& query_codes, const torch::Tensor& key_codes,
                        const torch::Tensor& usable, const ListOptions& options, CodeOrder order);

/// Share of the keys found by codes that the exact search might have listed too: those with as many
/// equal codes as the last key of its list. 1 where `found` is what `exact` is, ties aside.
double code_recall(const torch::Tensor& query_codes, const torch::Tensor& key_codes,
                   const KeyLists& found, const KeyLists& exact);

/// The keys with the highest scores [heads, queries, keys] (or broadcast to it).
KeyLists lists_by_scores(const torch::Tensor& scores, int64_t heads, const torch::Tensor& usable,
                         const ListOptions& options);

}  // namespace cajal::mixers
