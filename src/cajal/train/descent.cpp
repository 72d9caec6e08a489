#include "cajal/train/descent.h"

#include <torch/optim/adam.h>

#include <cmath>

#include "cajal/core/error.h"
#include "cajal/core/timing.h"

namespace cajal::train {
namespace {

void clip_gradients(const std::vector<torch::Tensor>& parameters, double limit) {
  double sum = 0;
  for (const auto& parameter : parameters)
    if (parameter.grad().defined()) sum += parameter.grad().square().sum().item<double>();
  if (sum <= limit * limit) return;
  for (const auto& parameter : parameters)
    if (parameter.grad().defined()) parameter.grad().mul_(limit / std::sqrt(sum));
}

}  // namespace

Descent descend(const std::vector<torch::Tensor>& parameters, int64_t rows,
                const std::function<torch::Tensor(const torch::Tensor& rows)>& loss,
                const DescentOptions& o) {
  require(rows > 0 && o.batch > 0, "descend: {} rows in batches of {}", rows, o.batch);
  Descent out;
  if (parameters.empty()) return out;
  const int64_t per_epoch = (rows + o.batch - 1) / o.batch;
  const int64_t steps = o.steps > 0 ? o.steps : o.epochs * per_epoch;
  torch::optim::Adam adam(parameters, torch::optim::AdamOptions(o.rate).weight_decay(o.weight));
  torch::Tensor order;
  const Stopwatch watch;
  for (int64_t step = 0; step < steps; ++step) {
    const int64_t place = step % per_epoch;
    if (place == 0) order = torch::randperm(rows, torch::kLong);
    if (step == steps * 4 / 5)
      for (auto& group : adam.param_groups())
        static_cast<torch::optim::AdamOptions&>(group.options()).lr(o.rate * o.decay);
    const auto value = loss(order.slice(0, place * o.batch, std::min(rows, (place + 1) * o.batch)));
    adam.zero_grad();
    value.backward();
    if (o.clip > 0) clip_gradients(parameters, o.clip);
    adam.step();
    if (step % 50 == 49 || step + 1 == steps) {
      out.loss = value.item<double>();
      require(std::isfinite(out.loss), "training diverged: the loss is {} in step {}", out.loss,
              step + 1);
    }
  }
  out.steps = steps,
  out.seconds = watch.seconds() / static_cast<double>(std::max<int64_t>(steps, 1));
  return out;
}

torch::Tensor outputs(const std::function<torch::Tensor(const torch::Tensor&)>& model,
                      const torch::Tensor& x, int64_t batch) {
  const torch::NoGradGuard no_grad;
  std::vector<torch::Tensor> parts;
  for (int64_t i = 0; i < x.size(0); i += batch)
    parts.push_back(model(x.slice(0, i, std::min(x.size(0), i + batch))));
  return torch::cat(parts);
}

double share_correct(const torch::Tensor& scores, const torch::Tensor& classes) {
  return (scores.argmax(-1) == classes).to(torch::kDouble).mean().item<double>();
}

}  // namespace cajal::train
