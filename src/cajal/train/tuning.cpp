#include "cajal/train/tuning.h"

#include <torch/nn/utils/clip_grad.h>
#include <torch/optim/adamw.h>

#include <algorithm>
#include <cmath>

#include "cajal/core/error.h"
#include "cajal/core/timing.h"
#include "cajal/train/saved_bytes.h"

namespace cajal::train {
namespace {

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::nth_element(values.begin(), values.begin() + std::ssize(values) / 2, values.end());
  return values[values.size() / 2];
}

torch::optim::AdamW optimizer_of(const std::vector<torch::Tensor>& parameters,
                                 const TuningOptions& o) {
  std::vector<torch::Tensor> decayed, others;
  for (const auto& p : parameters) (p.dim() > 1 ? decayed : others).push_back(p);
  const auto group = [&](double decay) {
    return std::make_unique<torch::optim::AdamWOptions>(
        torch::optim::AdamWOptions(o.rate).betas({0.9, 0.95}).weight_decay(decay));
  };
  return torch::optim::AdamW({torch::optim::OptimizerParamGroup(decayed, group(o.weight_decay)),
                              torch::optim::OptimizerParamGroup(others, group(0))},
                             torch::optim::AdamWOptions(o.rate));
}

}  // namespace

TuningCost tune(lm::Adapted& model, const TuningBatch& batch, const TuningOptions& options) {
  require(options.steps > 0, "tuning: {} steps", options.steps);
  const auto parameters = model->trainable();
  auto adam = optimizer_of(parameters, options);
  TuningCost out;
  for (const auto& p : parameters) out.parameters += p.numel();
  std::vector<double> forward, backward, whole;
  model->train();
  for (int64_t step = 0; step < options.steps; ++step) {
    const auto [ids, targets] = batch(step);
    const Stopwatch clock;
    adam.zero_grad();
    auto loss = model->loss(ids, targets);
    forward.push_back(clock.seconds() * 1e3);
    loss.backward();
    backward.push_back(clock.seconds() * 1e3 - forward.back());
    if (options.clip > 0) torch::nn::utils::clip_grad_norm_(parameters, options.clip);
    adam.step();
    whole.push_back(clock.seconds() * 1e3);
    out.loss = loss.item<double>();
    require(std::isfinite(out.loss), "tuning: the loss of step {} is no number", step);
  }
  model->eval();
  out.forward = median(forward), out.backward = median(backward), out.step = median(whole);
  return out;
}

TuningCost tune_metered(const std::function<lm::Adapted()>& make, const TuningBatch& batch,
                        const TuningOptions& options) {
  const AllocatedBytes meter;
  auto model = make();
  auto out = tune(model, batch, options);
  out.peak_bytes = meter.peak();
  return out;
}

}  // namespace cajal::train
