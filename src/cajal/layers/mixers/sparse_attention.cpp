#include "cajal/layers/mixers/sparse_attention.h"

#include <algorithm>
#include <cmath>

#include "cajal/layers/layer.h"

namespace cajal {
namespace {

SparseAttentionOptions checked(const SparseAttentionOptions& o) {
  require(o.head_width > 0, "sparse_attention: head_width must be positive, got {}", o.head_width);
  require(o.keys >= 0 && o.sink >= 0, "sparse_attention: keys {} and sink {} must not be negative",
          o.keys, o.sink);
  require(o.keys == 0 || o.sink + (o.keep_diagonal ? 1 : 0) <= o.keys,
          "sparse_attention: {} keys a query leave no room for {} first ones{}", o.keys, o.sink,
          o.keep_diagonal ? " and its own" : "");
  require(o.clamp >= 0 && o.scale >= 0, "sparse_attention: clamp {} and scale {} must be 0 or more",
          o.clamp, o.scale);
  return o;
}

torch::Tensor by_head(const torch::Tensor& t) { return t.flatten(0, 1).contiguous(); }

// Attention over all keys, by the same rules.
torch::Tensor dense(const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v,
                    const torch::Tensor& mask, const SparseAttentionOptions& o, double scale) {
  auto scores = torch::matmul(q, k.transpose(-1, -2)) * scale;
  if (o.clamp > 0) scores = scores.clamp(-o.clamp, o.clamp);
  const int64_t queries = q.size(-2), keys = k.size(-2);
  auto hidden = torch::zeros({queries, keys}, q.options().dtype(torch::kBool));
  if (o.causal) hidden = torch::ones_like(hidden).triu(keys - queries + 1);
  if (mask.defined()) hidden = hidden.logical_or(mask.eq(0).unsqueeze(1).unsqueeze(1));
  const auto p = torch::softmax(scores.masked_fill(hidden, -INFINITY), -1);
  return torch::matmul(p.masked_fill(hidden, 0), v);
}

}  // namespace

SparseAttentionImpl::SparseAttentionImpl(const SparseAttentionOptions& o) : options(checked(o)) {
  quantizer = register_module(
      "quantizer", ProductQuantizer(ProductQuantizerOptions{.width = o.head_width,
                                                            .codewords = o.codewords,
                                                            .code_width = o.code_width,
                                                            .stop_gradient = o.stop_gradient}));
}

double SparseAttentionImpl::scale() const {
  return options.scale > 0 ? options.scale : 1 / std::sqrt(static_cast<double>(options.head_width));
}

mixers::ListOptions SparseAttentionImpl::list_options(int64_t keys) const {
  const int64_t forced = options.sink + (options.keep_diagonal ? 1 : 0);
  return {.most = options.keys > 0 ? options.keys : std::max({int64_t{1}, forced, keys / 8}),
          .sink = options.sink,
          .keep_self = options.keep_diagonal,
          .causal = options.causal};
}

mixers::KeyLists SparseAttentionImpl::search(const torch::Tensor& q, const torch::Tensor& k,
                                             const torch::Tensor& mask) const {
  const torch::NoGradGuard no_grad;
  const int64_t heads = q.size(0) * q.size(1), queries = q.size(2), keys = k.size(2);
  const auto list = list_options(keys);
  switch (options.search) {
    case KeySearch::codes:
    case KeySearch::quartiles:
      return mixers::lists_by_codes(
          quantizer->codes(by_head(q)), quantizer->codes(by_head(k)), mask, list,
          options.search == KeySearch::codes ? CodeOrder::exact : CodeOrder::quartiles);
    case KeySearch::scores:
      return mixers::lists_by_scores(torch::matmul(by_head(q), by_head(k).transpose(1, 2)), heads,
                                     mask, list);
    case KeySearch::window: {
      const auto nearer = torch::arange(keys) - torch::arange(queries).unsqueeze(1);
      const auto order = options.causal ? nearer : -nearer.abs();
      return mixers::lists_by_scores(order.unsqueeze(0), heads, mask, list);
    }
    case KeySearch::random:
      return mixers::lists_by_scores(torch::rand({heads, queries, keys}), heads, mask, list);
    case KeySearch::all:
      break;
  }
  fail("sparse_attention: search 'all' makes no lists");
}

torch::Tensor SparseAttentionImpl::quantisation_loss(const torch::Tensor& q,
                                                     const torch::Tensor& k) const {
  return quantizer->loss(q) + quantizer->loss(k);
}

std::tuple<torch::Tensor, torch::Tensor> SparseAttentionImpl::forward(const torch::Tensor& q,
                                                                      const torch::Tensor& k,
                                                                      const torch::Tensor& v,
                                                                      const torch::Tensor& mask) {
  const bool fits = q.dim() == 4 && k.dim() == 4 && v.sizes() == k.sizes() &&
                    q.size(0) == k.size(0) && q.size(1) == k.size(1) &&
                    q.size(3) == options.head_width && k.size(3) == options.head_width;
  require(fits,
          "sparse_attention: q {}, k {}, v {}, expected [batch, heads, tokens, head_width] with "
          "head_width = {}",
          shape_text(q.sizes()), shape_text(k.sizes()), shape_text(v.sizes()), options.head_width);
  require(!options.causal || q.size(2) <= k.size(2), "sparse_attention: {} queries for {} keys",
          q.size(2), k.size(2));
  require(!mask.defined() ||
              (mask.dim() == 2 && mask.size(0) == k.size(0) && mask.size(1) == k.size(2)),
          "sparse_attention: mask must be [batch, tokens] of k");
  const auto loss = options.losses ? quantisation_loss(q, k) : torch::Tensor();
  if (options.search == KeySearch::all) return {dense(q, k, v, mask, options, scale()), loss};
  const auto may = mask.defined() ? mask.ne(0).to(torch::kByte) : mask;
  const auto y = mixers::listed_attention(by_head(q), by_head(k), by_head(v), search(q, k, may),
                                          scale(), options.clamp);
  return {y.view(q.sizes()), loss};
}

SparseKeyCache::SparseKeyCache(SparseAttention layer, int64_t heads, int64_t capacity)
    : layer_(std::move(layer)), heads_(heads), capacity_(capacity) {
  const auto& o = layer_->options;
  require(o.causal && o.search == KeySearch::codes && o.keys > 0 && o.codewords <= 16,
          "sparse_attention: a cache needs a causal search by codes, a fixed number of keys and at "
          "most 16 codewords");
  require(heads > 0 && capacity > 0, "sparse_attention: a cache of {} heads and {} tokens", heads,
          capacity);
  const auto type = layer_->quantizer->codebooks.options().requires_grad(false);
  k_ = torch::empty({heads, capacity, o.head_width}, type);
  v_ = torch::empty_like(k_);
  codes_ = torch::zeros({heads, code_bytes(), capacity}, torch::kByte);
}

int64_t SparseKeyCache::code_bytes() const { return (layer_->quantizer->spaces() + 1) / 2; }

torch::Tensor SparseKeyCache::step(const torch::Tensor& q, const torch::Tensor& k,
                                   const torch::Tensor& v) {
  const torch::NoGradGuard no_grad;
  const auto& o = layer_->options;
  for (const auto& t : {q, k, v})
    require(t.dim() == 2 && t.size(0) == heads_ && t.size(1) == o.head_width,
            "sparse_attention: a step of {}, expected [heads, head_width] = [{}, {}]",
            shape_text(t.sizes()), heads_, o.head_width);
  require(tokens_ < capacity_, "sparse_attention: the cache holds {} tokens, no room for another",
          capacity_);
  k_.select(1, tokens_).copy_(k), v_.select(1, tokens_).copy_(v);
  const int64_t spaces = layer_->quantizer->spaces(), bytes = code_bytes();
  const auto of_key = layer_->quantizer->codes(k), of_query = layer_->quantizer->codes(q);
  for (int64_t h = 0; h < heads_; ++h)
    for (int64_t s = 0; s < spaces; ++s) {
      auto& byte = codes_.data_ptr<uint8_t>()[(h * bytes + s / 2) * capacity_ + tokens_];
      byte = static_cast<uint8_t>(byte | of_key.data_ptr<uint8_t>()[h * spaces + s]
                                             << (s % 2 == 0 ? 0 : 4));
    }
  ++tokens_;
  const int64_t most = std::min(o.keys, tokens_);
  mixers::KeyLists lists{torch::zeros({heads_, 1, most}, torch::kInt),
                         torch::zeros({heads_, 1}, torch::kInt)};
  const CodeSearch search{spaces, most, o.sink, o.keep_diagonal, CodeOrder::exact};
  std::vector<uint8_t> score(static_cast<size_t>(tokens_));
  for (int64_t h = 0; h < heads_; ++h) {
    if (tokens_ > most)
      count_equal_nibbles(of_query.data_ptr<uint8_t>() + h * spaces,
                          codes_.data_ptr<uint8_t>() + h * bytes * capacity_, capacity_, tokens_,
                          spaces, score.data());
    lists.counts.data_ptr<int32_t>()[h] =
        static_cast<int32_t>(take_keys(score.data(), tokens_, tokens_ - 1, nullptr, search,
                                       lists.places.data_ptr<int32_t>() + h * most));
  }
  return mixers::listed_attention(q.unsqueeze(1), k_.narrow(1, 0, tokens_),
                                  v_.narrow(1, 0, tokens_), lists, layer_->scale(), o.clamp)
      .squeeze(1);
}

namespace {
const auto registered_sparse_attention = layers::add<SparseAttention>(
    "sparse_attention", "attention over the keys whose codes are likest the query's (SPT)",
    {.example = {.head_width = 8, .codewords = 4, .code_width = 4, .losses = true},
     .inputs = {{"q", "[batch, heads, queries, head_width]"},
                {"k", "[batch, heads, tokens, head_width]"},
                {"v", "[batch, heads, tokens, head_width]"},
                {.name = "mask", .shape = "[batch, tokens]", .optional = true}},
     .outputs = {{"y", "[batch, heads, queries, head_width]"}, {"loss", "[]"}},
     .axes = {.sizes = {{"batch", 2}, {"heads", 2}, {"queries", 16}, {"tokens", 16}}, .rest = {}}});
}  // namespace
}  // namespace cajal
