#include "cajal/layers/ffn/fff_tree.h"

namespace cajal::fff {
namespace {

// The weights of level t + 1 from those of level t: [rows, 2^t] -> [rows, 2^(t + 1)].
torch::Tensor next_level(const torch::Tensor& weights, const torch::Tensor& right, int64_t level) {
  const auto c = right.narrow(1, node_count(level), leaf_count(level));
  return torch::stack({weights * (1 - c), weights * c}, -1).flatten(1);
}

}  // namespace

torch::Tensor leaf_weights(const torch::Tensor& right, int64_t depth) {
  auto weights = torch::ones({right.size(0), 1}, right.options());
  for (int64_t level = 0; level < depth; ++level) weights = next_level(weights, right, level);
  return weights;
}

torch::Tensor reach_weights(const torch::Tensor& right, int64_t depth) {
  if (depth == 0) return right;
  std::vector<torch::Tensor> levels = {torch::ones({right.size(0), 1}, right.options())};
  for (int64_t level = 0; level + 1 < depth; ++level)
    levels.push_back(next_level(levels.back(), right, level));
  return torch::cat(levels, 1);
}

torch::Tensor leaf_of(const torch::Tensor& logits, int64_t depth) {
  auto at = torch::zeros({logits.size(0), 1}, logits.options().dtype(torch::kLong));
  for (int64_t level = 0; level < depth; ++level) {
    const auto logit =
        logits.detach().narrow(1, node_count(level), leaf_count(level)).gather(1, at);
    at = 2 * at + logit.ge(0).to(torch::kLong);
  }
  return at.squeeze(1);
}

torch::Tensor descend(const torch::Tensor& x, const torch::Tensor& node_w,
                      const torch::Tensor& node_b, int64_t depth) {
  const torch::NoGradGuard no_grad;
  auto at = torch::zeros({x.size(0)}, x.options().dtype(torch::kLong));
  for (int64_t level = 0; level < depth; ++level) {
    const auto node = at + node_count(level);
    const auto logit =
        (x * node_w.index_select(0, node)).sum(-1) + node_b.index_select(0, node).squeeze(-1);
    at = 2 * at + logit.ge(0).to(torch::kLong);
  }
  return at;
}

torch::Tensor decision_entropy(const torch::Tensor& right) {
  const auto c = right.clamp(1e-6, 1 - 1e-6);
  return -(c * c.log() + (1 - c) * (1 - c).log());
}

}  // namespace cajal::fff
