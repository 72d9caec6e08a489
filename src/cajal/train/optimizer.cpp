#include "cajal/train/optimizer.h"

#include <algorithm>
#include <cmath>

#include "cajal/train/optimizer_cuda.h"

namespace cajal::train {

Optimizer::Optimizer(FlatParameters& parameters, const Options& options)
    : parameters_(parameters), options_(options) {
  first = torch::zeros_like(parameters.values);
  second = torch::zeros_like(parameters.values);
  if (options.average > 0) average = parameters.values.clone();
  rates_ = torch::zeros({4}, parameters.values.options());
  norm_and_factor_ = torch::ones({2}, parameters.values.options());
}

void Optimizer::prepare(int64_t step) {
  const auto t = static_cast<double>(step + 1);
  // Early on the average follows the values closely, else it would remember their random start.
  const double keep = std::min(options_.average, t / (t + 10));
  auto next = torch::empty({4}, torch::TensorOptions().pinned_memory(rates_.is_cuda()));
  auto* rates = next.data_ptr<float>();
  rates[0] = static_cast<float>(rate_at(options_, step));
  rates[1] = static_cast<float>(1 / (1 - std::pow(options_.beta1, t)));
  rates[2] = static_cast<float>(1 / (1 - std::pow(options_.beta2, t)));
  rates[3] = static_cast<float>(1 - keep);
  rates_.copy_(next, /*non_blocking=*/true);
}

void Optimizer::step() {
  const torch::NoGradGuard no_gradient;
  const int64_t begin = options_.optimizer == Rule::muon ? parameters_.matrices_end() : 0;
  if constexpr (fused::available) {
    if (parameters_.values.is_cuda()) {
      fused::clip(parameters_.gradient, options_.clip, norm_and_factor_);
      if (begin > 0) muon();
      fused::adamw(parameters_, *this, options_, begin, rates_, norm_and_factor_);
      return;
    }
  }
  const auto norm = parameters_.gradient.norm();
  norm_and_factor_.select(0, 0).copy_(norm);
  if (options_.clip > 0) norm_and_factor_.select(0, 1).copy_((options_.clip / norm).clamp_max(1));
  if (begin > 0) muon();
  adamw(begin);
}

void Optimizer::adamw(int64_t begin) {
  const int64_t count = parameters_.size() - begin;
  if (count > 0) {
    const auto part = [&](const torch::Tensor& flat) { return flat.narrow(0, begin, count); };
    const auto gradient = part(parameters_.gradient).mul_(norm_and_factor_.select(0, 1));
    auto values = part(parameters_.values), m = part(first), v = part(second);
    const auto rate = rates_.select(0, 0);
    m.lerp_(gradient, 1 - options_.beta1);
    v.mul_(options_.beta2).addcmul_(gradient, gradient, 1 - options_.beta2);
    values.narrow(0, 0, std::max<int64_t>(0, parameters_.decayed_end() - begin))
        .mul_(1 - rate * options_.weight_decay);
    const auto deviation = (v * rates_.select(0, 2)).sqrt_().add_(options_.epsilon);
    values.sub_((m / deviation).mul_(rate * rates_.select(0, 1)));
    if (parameters_.copies()) part(parameters_.working).copy_(values);
  }
  if (average.defined()) average.lerp_(parameters_.values, rates_.select(0, 3));
}

void Optimizer::muon() {
  const auto& slots = parameters_.slots();
  const auto rate = rates_.select(0, 0), factor = norm_and_factor_.select(0, 1);
  for (size_t i = 0; i < slots.size() && slots[i].parameter.role == Role::matrix;) {
    // Matrices of one shape lie side by side and go through the matrix products together.
    size_t end = i + 1;
    while (end < slots.size() && slots[end].parameter.role == Role::matrix &&
           slots[end].shape == slots[i].shape)
      ++end;
    const auto count = static_cast<int64_t>(end - i);
    const int64_t rows = slots[i].shape[0], columns = slots[i].shape[1];
    const int64_t apart = count > 1 ? slots[i + 1].offset - slots[i].offset : slots[i].count;
    const auto stack = [&](const torch::Tensor& flat) {
      return flat.as_strided({count, rows, columns}, {apart, columns, 1}, slots[i].offset);
    };
    const auto gradient = stack(parameters_.gradient).mul_(factor);
    auto momentum = stack(first), values = stack(parameters_.values);
    momentum.lerp_(gradient, 1 - options_.momentum);
    const auto ahead = torch::lerp(gradient, momentum, options_.momentum);  // Nesterov
    // The scale gives the step the size of an AdamW step, so that rate and decay carry over.
    const double scale = 0.2 * std::sqrt(static_cast<double>(std::max(rows, columns)));
    values.mul_(1 - rate * options_.weight_decay);
    values.sub_(orthogonalise(ahead).to(torch::kFloat) * (rate * scale));
    if (parameters_.copies()) stack(parameters_.working).copy_(values);
    i = end;
  }
}

torch::Tensor orthogonalise(const torch::Tensor& x) {
  const bool tall = x.size(1) > x.size(2);
  auto y = tall ? x.transpose(1, 2) : x;
  y = y / (y.flatten(1).norm(2, 1).view({-1, 1, 1}) + 1e-7);
  if (x.is_cuda()) y = y.to(torch::kBFloat16);
  for (int step = 0; step < 5; ++step) {
    const auto a = torch::bmm(y, y.transpose(1, 2));
    const auto b = torch::baddbmm(a, a, a, /*beta=*/-4.7750, /*alpha=*/2.0315);
    y = torch::baddbmm(y, b, y, /*beta=*/3.4445, /*alpha=*/1);
  }
  return tall ? y.transpose(1, 2) : y;
}

}  // namespace cajal::train
