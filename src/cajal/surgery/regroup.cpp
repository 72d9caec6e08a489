#include "cajal/surgery/regroup.h"

#include <algorithm>
#include <numeric>

#include "cajal/core/error.h"

namespace cajal::surgery {
namespace {

void check(const torch::Tensor& fires, int64_t group) {
  require(fires.dim() == 2 && fires.scalar_type() == torch::kBool && fires.numel() > 0,
          "regroup: what fires is {}, expected bool [tokens, neurons]", shape_text(fires.sizes()));
  require(group > 0, "regroup: groups of {} neurons", group);
}

}  // namespace

std::vector<int32_t> coactivation_order(const torch::Tensor& fires, int64_t group) {
  check(fires, group);
  const torch::NoGradGuard no_grad;
  const int64_t neurons = fires.size(1);
  const auto f = fires.to(torch::kFloat);
  const auto both = torch::mm(f.t(), f).contiguous();  // tokens on which two fire
  const auto alone = both.diagonal().contiguous();
  const float* count = alone.data_ptr<float>();
  const float* overlap = both.data_ptr<float>();

  std::vector<int32_t> left(static_cast<size_t>(neurons)), order;
  std::iota(left.begin(), left.end(), 0);
  std::stable_sort(left.begin(), left.end(),
                   [&](int32_t a, int32_t b) { return count[a] > count[b]; });
  const auto silent = std::find_if(left.begin(), left.end(), [&](int32_t i) { return !count[i]; });
  const std::vector<int32_t> never(silent, left.end());
  left.erase(silent, left.end());

  std::vector<float> score(static_cast<size_t>(neurons));
  while (!left.empty()) {
    std::fill(score.begin(), score.end(), 0.0f);
    auto next = left.begin();
    for (int64_t k = 0; k < group && !left.empty(); ++k) {
      const int32_t chosen = *next;
      order.push_back(chosen);
      left.erase(next);
      const float* with = overlap + chosen * neurons;
      for (const int32_t i : left) score[i] += with[i] / (count[i] + count[chosen] - with[i]);
      next = std::max_element(left.begin(), left.end(),
                              [&](int32_t a, int32_t b) { return score[a] < score[b]; });
    }
  }
  order.insert(order.end(), never.begin(), never.end());
  return order;
}

double live_groups(const torch::Tensor& fires, const std::vector<int32_t>& order, int64_t group) {
  check(fires, group);
  auto ordered = fires;
  if (!order.empty()) {
    require(std::ssize(order) == fires.size(1), "regroup: an order of {} neurons, expected {}",
            order.size(), fires.size(1));
    const auto index =
        torch::tensor(std::vector<int64_t>(order.begin(), order.end()), torch::kLong);
    ordered = fires.index_select(1, index);
  }
  double live = 0;
  int64_t groups = 0;
  for (int64_t begin = 0; begin < ordered.size(1); begin += group, ++groups)
    live += ordered.slice(1, begin, std::min(begin + group, ordered.size(1)))
                .any(1)
                .to(torch::kFloat)
                .mean()
                .item<double>();
  return live / static_cast<double>(groups);
}

}  // namespace cajal::surgery
