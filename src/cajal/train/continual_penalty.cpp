#include <algorithm>
#include <utility>

#include "cajal/train/continual.h"

namespace cajal::train {

void QuadraticPenalty::add(const std::vector<torch::Tensor>& importance,
                           const std::vector<torch::Tensor>& anchor) {
  const torch::NoGradGuard no_grad;
  for (size_t i = 0; i < importance.size(); ++i) {
    if (i == weight_.size()) {
      weight_.push_back(torch::zeros_like(importance[i]));
      pull_.push_back(torch::zeros_like(importance[i]));
    }
    weight_[i] += importance[i];
    pull_[i] += importance[i] * anchor[i];
  }
}

void QuadraticPenalty::add_and_move(const std::vector<torch::Tensor>& importance,
                                    const std::vector<torch::Tensor>& anchor) {
  add(importance, anchor);
  const torch::NoGradGuard no_grad;
  for (size_t i = 0; i < weight_.size(); ++i) pull_[i] = weight_[i] * anchor[i];
}

torch::Tensor QuadraticPenalty::gradient(size_t i, const torch::Tensor& value) const {
  return i < weight_.size() ? strength_ * (weight_[i] * value - pull_[i]) : torch::Tensor();
}

std::vector<torch::Tensor> fisher_diagonal(const TaskNet& net, const torch::Tensor& x, size_t task,
                                           int64_t samples) {
  require(samples > 0 && x.size(0) > 0, "Fisher information of {} samples", samples);
  const auto parameters = net->shared();
  std::vector<torch::Tensor> out;
  for (const auto& p : parameters) out.push_back(torch::zeros_like(p, torch::requires_grad(false)));
  const auto count = std::min(samples, x.size(0));
  const auto chosen = torch::randperm(x.size(0), torch::kLong).narrow(0, 0, count);
  for (int64_t i = 0; i < count; ++i) {
    const auto likelihood =
        net->forward(x.index_select(0, chosen.narrow(0, i, 1)), task).log_softmax(1).flatten();
    const auto label = likelihood.detach().exp().multinomial(1);
    const auto gradients =
        torch::autograd::grad({likelihood.index_select(0, label).sum()}, parameters);
    for (size_t p = 0; p < out.size(); ++p)
      out[p].addcmul_(gradients[p], gradients[p], 1.0 / static_cast<double>(count));
  }
  return out;
}

PathIntegral::PathIntegral(std::vector<torch::Tensor> parameters, double damping)
    : parameters_(std::move(parameters)), damping_(damping) {
  for (const auto& p : parameters_) {
    begin_.push_back(p.detach().clone());
    before_.push_back(p.detach().clone());
    sum_.push_back(torch::zeros_like(begin_.back()));
  }
}

void PathIntegral::before_step() {
  for (size_t i = 0; i < parameters_.size(); ++i) before_[i].copy_(parameters_[i].detach());
}

void PathIntegral::after_step(const std::vector<torch::Tensor>& gradients) {
  for (size_t i = 0; i < parameters_.size(); ++i)
    sum_[i].addcmul_(gradients[i], parameters_[i].detach() - before_[i], -1);
}

std::vector<torch::Tensor> PathIntegral::importance() const {
  std::vector<torch::Tensor> out;
  for (size_t i = 0; i < parameters_.size(); ++i)
    out.push_back(sum_[i].clamp_min(0) /
                  ((parameters_[i].detach() - begin_[i]).square() + damping_));
  return out;
}

}  // namespace cajal::train
