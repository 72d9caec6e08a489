#include "cajal/train/diffusion.h"

#include <torch/optim/adam.h>

#include <cmath>
#include <numbers>

#include "cajal/core/error.h"
#include "cajal/core/progress.h"

namespace cajal::train {

using torch::Tensor;

double train_diffusion(diffusion::TextToImage& model, const diffusion::Schedule& schedule,
                       const std::function<std::pair<Tensor, Tensor>(int64_t)>& batch,
                       const DiffusionOptions& o) {
  require(o.steps > 0 && o.rate > 0 && o.average >= 0 && o.average < 1 && o.dropped >= 0 &&
              o.dropped <= 1,
          "diffusion: steps and rate must be positive, average below 1 and dropped 0 to 1");
  const auto parameters = model->parameters();
  torch::optim::Adam adam(parameters, torch::optim::AdamOptions(o.rate));
  std::vector<Tensor> average;
  for (const auto& p : parameters) average.push_back(p.detach().clone());
  model->train();
  Progress progress("diffusion", o.steps, "steps");
  double sum = 0;
  int64_t counted = 0;
  for (int64_t step = 0; step < o.steps; ++step) {
    const double done = static_cast<double>(step) / static_cast<double>(o.steps);
    for (auto& group : adam.param_groups())
      static_cast<torch::optim::AdamOptions&>(group.options())
          .lr(o.rate * (0.55 + 0.45 * std::cos(std::numbers::pi * done)));
    auto [x, words] = batch(step);
    const int64_t n = x.size(0);
    const auto kept = torch::rand({n, 1}).ge(o.dropped).to(torch::kLong);
    const auto t = torch::randint(schedule.options.steps, {n}, torch::kLong);
    const auto noise = torch::randn_like(x);
    const auto guess =
        model->forward(schedule.noised(x, t, noise), t.to(torch::kFloat), words * kept);
    const auto loss = (guess - schedule.target(x, noise)).square().mean();
    adam.zero_grad();
    loss.backward();
    torch::NoGradGuard no_grad;
    adam.step();
    // Early on the average would hold on to the random start.
    const double decay =
        std::min(o.average, static_cast<double>(step + 1) / static_cast<double>(step + 10));
    for (size_t i = 0; i < parameters.size(); ++i)
      average[i].mul_(decay).add_(parameters[i].detach(), 1 - decay);
    progress.add(1);
    if (step % 50 == 49 || step + 1 == o.steps) {
      const double value = loss.item<double>();
      require(std::isfinite(value), "diffusion: the loss is {} in step {}", value, step + 1);
      progress.note(fmt::format("loss {:.4f}", value));
    }
    if (step >= o.steps - std::max<int64_t>(1, o.steps / 10)) sum += loss.item<double>(), ++counted;
  }
  torch::NoGradGuard no_grad;
  for (size_t i = 0; i < parameters.size(); ++i) parameters[i].detach().copy_(average[i]);
  model->eval();
  return sum / static_cast<double>(counted);
}

}  // namespace cajal::train
