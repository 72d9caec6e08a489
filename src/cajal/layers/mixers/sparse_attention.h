#pragma once
#include <vector>

#include "cajal/core/options.h"
#include "cajal/core/torch.h"
#include "cajal/layers/mixers/key_lists.h"
#include "cajal/layers/mixers/product_quantizer.h"

namespace cajal {

/// How a query's keys are found.
enum class KeySearch {
  codes,      // by the number of equal codes of a product quantiser; of equal ones the later key
  quartiles,  // the same by quarters of that number, in the order of arrival: the reference's form
  scores,     // the largest q · k: all are computed
  window,     // the last ones
  random,
  all  // every key: dense attention
};

struct SparseAttentionOptions {
  int64_t head_width = 0;
  int64_t keys = 0;  // of a query; 0 = an eighth of the keys there are, at least 1
  KeySearch search = KeySearch::codes;
  bool keep_diagonal = true;  // a query's own key is always taken
  int64_t sink = 0;           // and so are the first so many keys
  bool causal = true;
  double clamp = 10;           // of the scaled scores, on both sides; 0 = none
  double scale = 0;            // of q · k; 0 = 1/√head_width
  int64_t codewords = 16;      // of the product quantiser
  int64_t code_width = 8;      // features of one of its sub-spaces
  bool stop_gradient = false;  // its loss does not move q and k
  bool losses = false;         // `forward` also gives its loss, of q plus of k
};
CAJAL_OPTIONS(SparseAttentionOptions, head_width, keys, search, keep_diagonal, sink, causal, clamp,
              scale, codewords, code_width, stop_gradient, losses)

/// Attention over the few keys of each query whose codes are likest the query's,
/// y_i = Σ_j softmax_j(clamp(scale q_i · k_j)) v_j; no gradient passes through the search.
/// Shapes: q [batch, heads, queries, head_width], k and v [batch, heads, tokens, head_width], mask
/// [batch, tokens] (0 = padding, optional) -> y as q, loss []; quantizer.codebooks [spaces,
/// codewords, code_width], one quantiser for q, k and all heads. With `causal` the last query
/// stands at the last key. Throws Error for options out of range and shapes that do not fit.
/// Source: Gui et al. 2023, arXiv 2312.10365; dossier spt (Build 1 to 3).
class SparseAttentionImpl : public torch::nn::Module {
 public:
  explicit SparseAttentionImpl(const SparseAttentionOptions& options);

  /// y, and with `losses` the quantiser's loss; else that is undefined.
  std::tuple<torch::Tensor, torch::Tensor> forward(const torch::Tensor& q, const torch::Tensor& k,
                                                   const torch::Tensor& v,
                                                   const torch::Tensor& mask = {});

  /// The keys that `forward` reads, heads [batch x heads]; not for `all`.
  mixers::KeyLists search(const torch::Tensor& q, const torch::Tensor& k,
                          const torch::Tensor& mask = {}) const;
  torch::Tensor quantisation_loss(const torch::Tensor& q, const torch::Tensor& k) const;

  double scale() const;

  const SparseAttentionOptions options;
  ProductQuantizer quantizer{nullptr};

 private:
  mixers::ListOptions list_options(int64_t keys) const;
};
TORCH_MODULE(SparseAttention);

/// The inference form for one token after another: keys and values as they came, and of each key
/// its codes, two a byte, by which a query finds its keys in a table of 256 answers.
class SparseKeyCache {
 public:
  /// Room for `capacity` tokens of `heads` heads. Throws Error unless the layer is causal, searches
  /// by `codes`, has a fixed number of `keys` and at most 16 codewords.
  SparseKeyCache(SparseAttention layer, int64_t heads, int64_t capacity);

  /// Takes q, k, v [heads, head_width] of the next token -> y [heads, head_width]. Throws Error
  /// when the cache is full.
  torch::Tensor step(const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v);

  int64_t tokens() const { return tokens_; }
  int64_t code_bytes() const;  // of one key of one head

 private:
  SparseAttention layer_;
  int64_t heads_, capacity_, tokens_ = 0;
  torch::Tensor k_, v_;  // [heads, capacity, head_width]
  torch::Tensor codes_;  // u8 [heads, code_bytes, capacity]
};

}  // namespace cajal

CAJAL_ENUM(cajal::KeySearch, {cajal::KeySearch::codes, "codes"},
           {cajal::KeySearch::quartiles, "quartiles"}, {cajal::KeySearch::scores, "scores"},
           {cajal::KeySearch::window, "window"}, {cajal::KeySearch::random, "random"},
           {cajal::KeySearch::all, "all"})
