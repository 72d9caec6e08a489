#include "cajal/train/local.h"

#include <torch/csrc/autograd/functions/accumulate_grad.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <unordered_set>
#include <utility>

namespace cajal::train {

void check(const LocalOptions& o, std::string_view where) {
  const auto positive = [&](double value, const char* name) {
    require(value > 0, "{}.{}: expected more than 0, got {}", where, name, value);
  };
  const auto share = [&](double value, const char* name) {
    require(value >= 0 && value < 1, "{}.{}: expected 0 to below 1, got {}", where, name, value);
  };
  positive(o.learning_rate, "learning_rate"), positive(o.epsilon, "epsilon");
  share(o.beta1, "beta1"), share(o.beta2, "beta2"), share(o.momentum, "momentum");
  require(o.weight_decay >= 0, "{}.weight_decay: expected 0 or more, got {}", where,
          o.weight_decay);
  require(o.clip >= 0, "{}.clip: expected 0 or more, got {}", where, o.clip);
}

LocalOptimizer::LocalOptimizer(std::vector<torch::Tensor> parameters, const LocalOptions& options)
    : parameters_(std::move(parameters)), trainable_(parameters_.size()), options_(options) {
  check(options, "optimizer");
  for (const auto& p : parameters_) {
    require(p.is_leaf() && p.requires_grad(),
            "an optimiser takes leaves that require a gradient, got {}", shape_text(p.sizes()));
    first_.push_back(torch::zeros_like(p, torch::requires_grad(false)));
    if (options.rule != LocalRule::sgd)
      second_.push_back(torch::zeros_like(p, torch::requires_grad(false)));
  }
}

void LocalOptimizer::step(const torch::Tensor& loss) {
  apply(torch::autograd::grad({loss}, parameters_, {}, /*retain_graph=*/false,
                              /*create_graph=*/false, /*allow_unused=*/true));
}

void LocalOptimizer::apply(const std::vector<torch::Tensor>& gradients) {
  require(gradients.size() == parameters_.size(), "{} gradients for {} parameters",
          gradients.size(), parameters_.size());
  const torch::NoGradGuard no_grad;
  ++steps_;
  double factor = 1;
  if (options_.clip > 0) {
    double squares = 0;
    for (const auto& g : gradients)
      if (g.defined()) squares += g.to(torch::kDouble).square().sum().item<double>();
    factor = std::min(1.0, options_.clip / (std::sqrt(squares) + 1e-6));
  }
  for (size_t i = 0; i < parameters_.size(); ++i) {
    if (!gradients[i].defined()) continue;
    auto gradient = factor < 1 ? gradients[i] * factor : gradients[i];
    if (trainable_[i].defined()) gradient = gradient * trainable_[i];
    if (!trainable_[i].defined()) {
      step_in_place(i, parameters_[i], gradient);
      continue;
    }
    // Weight decay and rounding must not touch what is frozen, so that it keeps every bit.
    const auto next = parameters_[i].clone();
    step_in_place(i, next, gradient);
    parameters_[i].copy_(torch::where(trainable_[i], next, parameters_[i]));
  }
}

void LocalOptimizer::step_in_place(size_t i, const torch::Tensor& value, torch::Tensor gradient) {
  const auto& o = options_;
  const double rate = o.learning_rate * share_;
  if (o.weight_decay > 0 && o.rule != LocalRule::adamw)
    gradient = gradient.add(value, o.weight_decay);
  if (o.rule == LocalRule::sgd) {
    first_[i].mul_(o.momentum).add_(gradient);
    value.sub_(first_[i], rate);
    return;
  }
  first_[i].mul_(o.beta1).add_(gradient, 1 - o.beta1);
  second_[i].mul_(o.beta2).addcmul_(gradient, gradient, 1 - o.beta2);
  const auto steps = static_cast<double>(steps_);
  const double first_scale = 1 - std::pow(o.beta1, steps);
  const double second_scale = std::sqrt(1 - std::pow(o.beta2, steps));
  const auto spread = second_[i].sqrt().div_(second_scale).add_(o.epsilon);
  if (o.rule == LocalRule::adamw && o.weight_decay > 0) value.mul_(1 - rate * o.weight_decay);
  value.addcdiv_(first_[i], spread, -rate / first_scale);
}

void LocalOptimizer::freeze(size_t parameter, const torch::Tensor& trainable) {
  require(parameter < parameters_.size(), "no parameter {} of {}", parameter, parameters_.size());
  if (trainable.defined()) {
    require(trainable.sizes() == parameters_[parameter].sizes() &&
                trainable.scalar_type() == torch::kBool,
            "a mask of booleans {} was expected, got {}",
            shape_text(parameters_[parameter].sizes()), shape_text(trainable.sizes()));
    const torch::NoGradGuard no_grad;
    first_[parameter].mul_(trainable);
    if (!second_.empty()) second_[parameter].mul_(trainable);
  }
  trainable_[parameter] = trainable;
}

double cosine_rate(int64_t step, int64_t steps) {
  const double passed =
      static_cast<double>(step) / static_cast<double>(std::max<int64_t>(1, steps));
  return 0.5 * (1 + std::cos(std::numbers::pi * std::min(1.0, passed)));
}

std::vector<torch::Tensor> reached_by(const torch::Tensor& loss) {
  std::vector<torch::Tensor> leaves;
  std::unordered_set<const torch::autograd::Node*> seen;
  std::vector<torch::autograd::Node*> open;
  const auto visit = [&](torch::autograd::Node* node) {
    if (node != nullptr && seen.insert(node).second) open.push_back(node);
  };
  visit(loss.grad_fn().get());
  while (!open.empty()) {
    auto* node = open.back();
    open.pop_back();
    // Only the node that adds into a leaf's gradient knows a variable of its own.
    if (auto* leaf = dynamic_cast<torch::autograd::AccumulateGrad*>(node))
      leaves.push_back(leaf->variable);
    for (const auto& edge : node->next_edges()) visit(edge.function.get());
  }
  if (loss.is_leaf() && loss.requires_grad()) leaves.push_back(loss);
  return leaves;
}

bool isolated(const torch::Tensor& loss, const std::vector<torch::Tensor>& parameters) {
  const auto reached = reached_by(loss);
  return std::none_of(parameters.begin(), parameters.end(), [&](const torch::Tensor& p) {
    return std::any_of(reached.begin(), reached.end(),
                       [&](const torch::Tensor& leaf) { return leaf.is_same(p); });
  });
}

std::vector<torch::Tensor> shuffled_batches(int64_t count, int64_t batch) {
  require(count > 0 && batch > 0, "batches of {} from {} samples", batch, count);
  return torch::randperm(count, torch::kLong).split(batch);
}

}  // namespace cajal::train
