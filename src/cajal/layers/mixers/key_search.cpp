#include <ATen/Parallel.h>

#include <algorithm>
#include <vector>

#include "cajal/core/error.h"
#include "cajal/layers/mixers/key_lists.h"

namespace cajal::mixers {
namespace {

void check(const ListOptions& o, int64_t queries, int64_t keys) {
  require(o.most > 0, "attention: {} keys a query, expected at least 1", o.most);
  require(o.sink >= 0 && o.sink + (o.keep_self ? 1 : 0) <= o.most,
          "attention: {} keys a query leave no room for {} first ones{}", o.most, o.sink,
          o.keep_self ? " and its own" : "");
  require(!o.causal || queries <= keys, "attention: {} queries for {} keys", queries, keys);
}

// Keys that a query sees: all up to its own place, the last query standing at the last key.
int64_t seen(const ListOptions& o, int64_t query, int64_t queries, int64_t keys) {
  return o.causal ? keys - queries + query + 1 : keys;
}

}  // namespace

KeyLists lists_by_codes(const torch::Tensor& query_codes, const torch::Tensor& key_codes,
                        const torch::Tensor& usable, const ListOptions& options, CodeOrder order) {
  const int64_t heads = query_codes.size(0), queries = query_codes.size(1);
  const int64_t keys = key_codes.size(1), spaces = query_codes.size(2);
  check(options, queries, keys);
  const int64_t most = std::min(options.most, keys);
  KeyLists out{torch::zeros({heads, queries, most}, torch::kInt),
               torch::zeros({heads, queries}, torch::kInt)};
  const auto of_queries = query_codes.contiguous();
  const auto by_space = key_codes.transpose(1, 2).contiguous();  // [heads, spaces, keys]
  const auto mask = usable.defined() ? usable.to(torch::kByte).contiguous() : usable;
  const int64_t share = mask.defined() ? heads / mask.size(0) : 1;
  const CodeSearch search{spaces, most, options.sink, options.keep_self, order};
  at::parallel_for(0, heads, 1, [&](int64_t begin, int64_t end) {
    std::vector<uint8_t> score(static_cast<size_t>(keys));
    for (int64_t h = begin; h < end; ++h) {
      const auto* codes = of_queries.data_ptr<uint8_t>() + h * queries * spaces;
      const auto* all = by_space.data_ptr<uint8_t>() + h * spaces * keys;
      const auto* may = mask.defined() ? mask.data_ptr<uint8_t>() + h / share * keys : nullptr;
      auto* places = out.places.data_ptr<int32_t>() + h * queries * most;
      auto* counts = out.counts.data_ptr<int32_t>() + h * queries;
      for (int64_t i = 0; i < queries; ++i, codes += spaces, places += most) {
        const int64_t count = seen(options, i, queries, keys);
        if (count > most || may) count_equal_codes(codes, all, keys, count, spaces, score.data());
        const int64_t self = options.causal ? count - 1 : (queries == keys ? i : -1);
        counts[i] = static_cast<int32_t>(take_keys(score.data(), count, self, may, search, places));
      }
    }
  });
  return out;
}

double code_recall(const torch::Tensor& query_codes, const torch::Tensor& key_codes,
                   const KeyLists& found, const KeyLists& exact) {
  const int64_t keys = key_codes.size(1);
  const auto equal = query_codes.unsqueeze(2).eq(key_codes.unsqueeze(1)).sum(-1);
  const auto all = exact.dense(keys);
  const auto least =
      equal.masked_fill(all.logical_not(), query_codes.size(2) + 1).amin(-1, /*keepdim=*/true);
  const auto good = found.dense(keys).logical_and(equal.ge(least)).sum(-1).to(torch::kDouble);
  return (good / all.sum(-1)).mean().item<double>();
}

KeyLists lists_by_scores(const torch::Tensor& scores, int64_t heads, const torch::Tensor& usable,
                         const ListOptions& options) {
  const torch::NoGradGuard no_grad;
  const int64_t queries = scores.size(1), keys = scores.size(2);
  check(options, queries, keys);
  const int64_t most = std::min(options.most, keys), offset = keys - queries;
  const auto row = torch::arange(queries).unsqueeze(1), column = torch::arange(keys).unsqueeze(0);
  const auto self = row + (options.causal ? offset : 0);
  const bool has_self = options.keep_self && (options.causal || queries == keys);
  KeyLists out{torch::zeros({heads, queries, most}, torch::kInt),
               torch::zeros({heads, queries}, torch::kInt)};
  for (int64_t h = 0; h < heads; ++h) {
    auto s = scores[scores.size(0) == 1 ? 0 : h].to(torch::kDouble);
    auto forced = column.lt(options.sink).expand({queries, keys});
    if (has_self) forced = forced.logical_or(column.eq(self));
    auto hidden = options.causal ? column.gt(self) : torch::zeros_like(forced);
    if (usable.defined())
      hidden = hidden.logical_or(usable[h / (heads / usable.size(0))].eq(0).unsqueeze(0));
    s = s.masked_fill(forced, INFINITY).masked_fill(hidden, -INFINITY);
    const auto [value, place] = s.topk(most, -1);
    const auto allowed = hidden.logical_not().sum(-1).clamp_max(most);
    // Those that may not be listed stand past the counts.
    const auto sorted =
        std::get<0>(place.masked_fill(value.eq(-INFINITY), keys).sort(-1)).clamp_max(keys - 1);
    out.places[h].copy_(sorted);
    out.counts[h].copy_(allowed);
  }
  return out;
}

}  // namespace cajal::mixers
