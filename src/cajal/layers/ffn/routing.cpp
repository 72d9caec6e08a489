#include "cajal/layers/ffn/routing.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "cajal/core/error.h"
#include "cajal/core/random.h"
#include "cajal/layers/ffn/balancing.h"

namespace cajal::routing {

Selection top(const torch::Tensor& scores, int64_t k) {
  return {std::get<1>(scores.detach().topk(k, -1)), {}, {}};
}

torch::Tensor mean_keys(const torch::Tensor& key, int64_t block) {
  const auto wide = key.scalar_type() == torch::kDouble ? key : key.to(torch::kFloat);
  return wide.view({-1, block, key.size(1)}).mean(1).to(key.scalar_type());
}

Selection switched(const torch::Tensor& logits, double capacity, double weight) {
  const auto p = torch::softmax(logits, -1);
  auto [best, block] = p.max(-1, /*keepdim=*/true);
  Selection out{block, best, balancing::load_balance(p, block) * weight};
  if (capacity <= 0) return out;
  const auto taken = torch::one_hot(block.squeeze(1), logits.size(1));
  const auto place = (taken.cumsum(0) * taken).sum(-1, /*keepdim=*/true);  // 1 for the first row
  const double room =
      capacity * static_cast<double>(logits.size(0)) / static_cast<double>(logits.size(1));
  out.weights = best * place.le(std::ceil(room)).to(best.scalar_type());
  return out;
}

Selection noisy_top(const torch::Tensor& clean, const torch::Tensor& deviation, int64_t k,
                    double importance, double load) {
  const auto noisy = deviation.defined() ? clean + torch::randn_like(clean) * deviation : clean;
  const int64_t n = clean.size(1);
  const auto [values, order] = noisy.topk(std::min(k + 1, n), -1);
  const auto chosen = order.narrow(1, 0, k);
  const auto gates = torch::softmax(values.narrow(1, 0, k), -1);
  const auto total = torch::zeros_like(clean).scatter(1, chosen, gates).sum(0);
  torch::Tensor expected;
  if (deviation.defined() && k < n) {
    // Chance that block i stays among the k best when its own noise is drawn again.
    const auto last_in = values.narrow(1, k - 1, 1), first_out = values.narrow(1, k, 1);
    const auto inside = torch::zeros_like(clean).scatter(1, chosen, 1.0).gt(0);
    const auto threshold = torch::where(inside, first_out, last_in);
    const auto z = (clean - threshold) / deviation;
    expected = (0.5 * (1 + torch::erf(z / std::sqrt(2.0)))).sum(0);
  } else {
    expected = balancing::count(chosen, n).to(clean.scalar_type());
  }
  return {chosen, gates,
          importance * balancing::squared_variation(total) +
              load * balancing::squared_variation(expected)};
}

torch::Tensor random_table(int64_t ids, int64_t blocks, int64_t k, uint64_t seed) {
  auto table = torch::empty({ids, k}, torch::kLong);
  auto* row = table.data_ptr<int64_t>();
  Random random(seed);
  std::vector<int64_t> all(static_cast<size_t>(blocks));
  std::iota(all.begin(), all.end(), 0);
  for (int64_t id = 0; id < ids; ++id)
    for (int64_t i = 0; i < k; ++i) {
      const auto at = static_cast<size_t>(i);
      std::swap(all[at], all[at + random.below(static_cast<uint64_t>(blocks - i))]);
      *row++ = all[at];
    }
  return table;
}

torch::Tensor bucket(const torch::Tensor& ids, int64_t n, int64_t buckets) {
  if (n == 1) return ids;
  auto mixed = ids;
  for (int64_t back = 1; back < n; ++back) {
    const int64_t tokens = ids.size(-1), kept = std::max<int64_t>(0, tokens - back);
    const auto pad = torch::zeros_like(ids.narrow(-1, 0, tokens - kept));
    const auto before = torch::cat({pad, ids.narrow(-1, 0, kept)}, -1);
    mixed = (mixed * 1000003 + before * 2654435761 + 12345).bitwise_and(0x7fffffff);
  }
  return mixed.remainder(buckets);
}

}  // namespace cajal::routing
