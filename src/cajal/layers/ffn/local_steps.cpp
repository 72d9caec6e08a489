#include "cajal/layers/ffn/local_steps.h"

#include "cajal/core/error.h"

namespace cajal {
namespace {

// [blocks due] as [blocks due, 1, ...] to scale rows of `like`.
torch::Tensor by_row(const torch::Tensor& values, const torch::Tensor& like) {
  std::vector<int64_t> sizes(static_cast<size_t>(like.dim()), 1);
  sizes[0] = values.numel();
  return values.view(sizes).to(like.scalar_type());
}

}  // namespace

LocalSteps::LocalSteps(std::vector<torch::Tensor> parameters, torch::Tensor usage,
                       const LocalStepOptions& o)
    : options(o), parameters_(std::move(parameters)), usage_(std::move(usage)) {
  require(usage_.defined() && usage_.dim() == 1,
          "local steps: no usage counter; build the layer with usage soft or hard");
  require(o.batch > 0 && o.learning_rate >= 0 && o.momentum >= 0,
          "local steps: batch must be positive, learning_rate and momentum not negative");
  require(!o.nesterov || (o.momentum > 0 && o.dampening == 0),
          "local steps: nesterov needs a momentum and no dampening");
  for (const auto& parameter : parameters_) {
    require(parameter.dim() > 0 && parameter.size(0) == usage_.size(0),
            "local steps: a parameter is {}, expected {} rows as the usage counter",
            shape_text(parameter.sizes()), usage_.size(0));
    first_.push_back(torch::zeros_like(parameter).detach());
    second_.push_back(o.rule == LocalRule::adam ? torch::zeros_like(parameter).detach()
                                                : torch::Tensor());
  }
  steps_ = torch::zeros_like(usage_);
}

void LocalSteps::sgd(size_t p, const torch::Tensor& due, torch::Tensor gradient) {
  if (options.momentum > 0) {
    const auto old = first_[p].index_select(0, due);
    const auto began = by_row(steps_.index_select(0, due).gt(1), gradient);  // 0 at the first step
    const auto share = 1 - options.dampening * began;
    const auto moved = old * options.momentum + gradient * share;
    first_[p].index_copy_(0, due, moved);
    gradient = options.nesterov ? gradient + moved * options.momentum : moved;
  }
  parameters_[p].index_add_(0, due, gradient * -options.learning_rate);
}

void LocalSteps::adam(size_t p, const torch::Tensor& due, const torch::Tensor& gradient) {
  const auto mean = first_[p].index_select(0, due) * options.beta1 + gradient * (1 - options.beta1);
  const auto square =
      second_[p].index_select(0, due) * options.beta2 + gradient.square() * (1 - options.beta2);
  first_[p].index_copy_(0, due, mean);
  second_[p].index_copy_(0, due, square);
  const auto t = steps_.index_select(0, due);
  const auto left1 = by_row(1 - torch::pow(options.beta1, t), gradient),
             left2 = by_row(1 - torch::pow(options.beta2, t), gradient);
  const auto change = (mean / left1) / ((square / left2).sqrt() + options.epsilon);
  parameters_[p].index_add_(0, due, change * -options.learning_rate);
}

void LocalSteps::step() {
  const torch::NoGradGuard no_grad;
  const auto due = usage_.ge(options.batch).nonzero().flatten();
  if (due.numel() == 0) return;
  steps_.index_add_(0, due, torch::ones_like(due).to(steps_.scalar_type()));
  const auto share = options.batch / usage_.index_select(0, due);
  for (size_t p = 0; p < parameters_.size(); ++p) {
    auto& sum = parameters_[p].mutable_grad();
    if (!sum.defined()) continue;
    auto gradient = sum.index_select(0, due);
    gradient = gradient * by_row(share, gradient);
    if (options.weight_decay != 0)
      gradient = gradient + parameters_[p].index_select(0, due) * options.weight_decay;
    if (options.rule == LocalRule::sgd) {
      sgd(p, due, gradient);
    } else {
      adam(p, due, gradient);
    }
    sum.index_fill_(0, due, 0);
  }
  usage_.index_fill_(0, due, 0);
}

}  // namespace cajal
