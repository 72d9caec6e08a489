#include "cajal/train/tuning.h"

#include <torch/nn/utils/clip_grad.h>
#include <torch/optim/adamw.h>

#include <algorithm>
#include <cmath>

#include "cajal/core/error.h"
#include "cajal/core/random.h"
#include "cajal/core/timing.h"
#include "cajal/train/saved_bytes.h"

namespace cajal::train {
namespace {

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

TuningBatch windows(std::span<const int32_t> ids, int64_t length, int64_t batch, uint64_t seed) {
  require(length > 0 && batch > 0 && std::ssize(ids) > length,
          "windows: {} of {} tokens from a text of {}", batch, length, ids.size());
  const auto all = torch::tensor(std::vector<int32_t>(ids.begin(), ids.end())).to(torch::kLong);
  return [=](int64_t step) {
    Random random(seed, static_cast<uint64_t>(step));
    const auto places = static_cast<uint64_t>(all.size(0) - length);
    std::vector<torch::Tensor> rows;
    for (int64_t b = 0; b < batch; ++b)
      rows.push_back(all.narrow(0, static_cast<int64_t>(random.below(places)), length + 1));
    const auto window = torch::stack(rows);
    return std::pair{window.narrow(1, 0, length).contiguous(),
                     window.narrow(1, 1, length).contiguous()};
  };
}

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
