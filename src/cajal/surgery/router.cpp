#include "cajal/surgery/router.h"

#include <ATen/CPUGeneratorImpl.h>
#include <torch/optim/adam.h>

#include <algorithm>

#include "cajal/core/error.h"
#include "cajal/layers/ffn/experts.h"

namespace cajal::surgery {
namespace {

void train(TrainedRouter& router, const torch::Tensor& x, const torch::Tensor& gains,
           int64_t active, const RouterOptions& o) {
  const torch::AutoGradMode gradients(true);
  auto generator = at::detail::createCPUGenerator(o.seed);
  const int64_t learning = learning_tokens(x.size(0), o);
  const auto seen = x.slice(0, learning), judged = gains.slice(0, learning);
  auto first = router.first.clone().requires_grad_(), second = router.second.clone();
  second.requires_grad_();
  torch::optim::Adam adam({first, second}, torch::optim::AdamOptions(o.learning_rate));
  for (int64_t epoch = 0; epoch < o.epochs; ++epoch) {
    const auto order = torch::randperm(learning, generator, torch::kLong);
    for (int64_t at = 0; at < learning; at += o.batch) {
      const auto rows = order.slice(0, at, std::min(learning, at + o.batch));
      const auto gain = gains.index_select(0, rows);
      const auto target = gain / gain.max().clamp_min(1e-12);
      const auto loss = torch::binary_cross_entropy_with_logits(
          experts::router_scores(router.kind, first, second, x.index_select(0, rows)), target);
      adam.zero_grad();
      loss.backward();
      adam.step();
    }
    const torch::NoGradGuard no_grad;
    const double captured =
        experts::captured(experts::router_scores(router.kind, first, second, seen), judged, active);
    if (captured <= router.captured) continue;
    router.captured = captured;
    router.first = first.detach().clone(), router.second = second.detach().clone();
  }
}

}  // namespace

int64_t learning_tokens(int64_t all, const RouterOptions& o) {
  const auto held = static_cast<int64_t>(o.held_back * static_cast<double>(all));
  return all - std::clamp<int64_t>(held, 1, all - 1);
}

torch::Tensor TrainedRouter::scores(const torch::Tensor& x, const torch::Tensor& gains) const {
  return kind == RouterKind::oracle ? gains : experts::router_scores(kind, first, second, x);
}

TrainedRouter train_router(RouterKind kind, const torch::Tensor& centres, const torch::Tensor& x,
                           const torch::Tensor& gains, int64_t active, const RouterOptions& o) {
  require(
      o.epochs >= 1 && o.batch >= 1 && o.learning_rate > 0 && o.held_back > 0 && o.held_back < 1,
      "router: {} epochs, batches of {}, rate {} and {} held back must be positive (held back: "
      "below 1)",
      o.epochs, o.batch, o.learning_rate, o.held_back);
  require(x.size(0) >= 2 && gains.size(0) == x.size(0), "router: {} tokens to learn from",
          x.size(0));
  const torch::NoGradGuard no_grad;
  TrainedRouter out{kind, {}, {}, 0};
  const int64_t learning = learning_tokens(x.size(0), o);
  if (kind != RouterKind::oracle) out.first = centres.clone();
  // The cosine of x and a centre: the length of x changes no order.
  if (kind == RouterKind::similarity)
    out.first = centres / centres.norm(2, -1, /*keepdim=*/true).clamp_min(1e-12);
  if (kind == RouterKind::mlp) out.second = torch::eye(centres.size(0));
  out.captured = experts::captured(out.scores(x.slice(0, learning), gains.slice(0, learning)),
                                   gains.slice(0, learning), active);
  if (kind == RouterKind::mlp) train(out, x, gains, active, o);
  return out;
}

}  // namespace cajal::surgery
