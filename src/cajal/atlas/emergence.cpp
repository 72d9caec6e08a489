#include "cajal/atlas/emergence.h"

#include <functional>
#include <optional>

#include "cajal/core/error.h"
#include "cajal/core/random.h"
#include "cajal/models/lm/checkpoint.h"
#include "cajal/models/lm/training.h"
#include "cajal/train/trainer.h"

namespace cajal::atlas {
namespace {

using torch::Tensor;
using Weights = std::vector<Tensor>;

constexpr uint64_t kValid = 99;  // seed of the windows of validation text

train::Batch windows(const Tensor& ids, const EmergenceOptions& o, uint64_t seed, int64_t step) {
  Random random(seed, static_cast<uint64_t>(step));
  std::vector<Tensor> some;
  for (int64_t k = 0; k < o.batch; ++k) {
    const auto begin =
        static_cast<int64_t>(random.below(static_cast<uint64_t>(ids.size(0) - o.window - 1)));
    some.push_back(ids.slice(0, begin, begin + o.window + 1));
  }
  const auto all = torch::stack(some);
  return {all.slice(1, 0, o.window), all.slice(1, 1)};
}

Weights weights_of(const lm::Transformer& model) {
  Weights out;
  for (const auto& p : model->parameters()) out.push_back(p.detach().clone());
  return out;
}
void put(lm::Transformer& model, const Weights& weights) {
  size_t i = 0;
  for (auto& p : model->parameters()) p.detach().copy_(weights[i++]);
}

/// Every matrix replaced by `made` of it.
void replace(lm::Transformer& model, uint64_t seed, const std::function<Tensor(Tensor)>& made) {
  torch::manual_seed(static_cast<int64_t>(seed));
  for (auto& p : model->parameters())
    if (p.dim() == 2) p.detach().copy_(made(p.detach()));
}
Tensor permuted(const Tensor& w) {
  return w.flatten().index_select(0, torch::randperm(w.numel())).view_as(w);
}
Tensor redrawn_like(const Tensor& w) { return torch::randn_like(w) * w.std() + w.mean(); }

/// A checkpoint while training.
struct Checkpoint {
  int64_t step;
  Weights weights;
};
std::vector<Checkpoint> trained(lm::Transformer& model, const Tensor& ids,
                                const EmergenceOptions& o, uint64_t seed) {
  std::vector<Checkpoint> out = {{0, weights_of(model)}};
  lm::TrainingLoss loss(model);
  auto task = train::task_of(
      *model, [&](const train::Slice& slice) { return windows(ids, o, seed, slice.step); },
      [&](const train::Batch& b) { return loss(b[0], b[1]); });
  int64_t done = 0;
  task.evaluate = [&] {
    ++done;
    const bool power_of_two = (done & (done - 1)) == 0;
    if (out.back().step != o.steps && (power_of_two || done == o.steps))
      out.push_back({done, weights_of(model)});
    return Json{{"loss", 0}};
  };
  train::Options options;
  options.steps = o.steps, options.learning_rate = o.rate, options.warmup_steps = o.steps / 20;
  options.evaluate_every = 1, options.keep = train::Keep::last;
  train::run(task, options);
  return out;
}

}  // namespace

Emergence follow_emergence(const Tensor& train, const Tensor& valid, const EmergenceOptions& o,
                           uint64_t seed) {
  require(o.steps > 0 && o.samples > 0 && o.valid_batches > 0 && o.redrawn >= 0,
          "emergence: steps {}, samples {}, valid_batches {}, redrawn {}", o.steps, o.samples,
          o.valid_batches, o.redrawn);
  require(std::min(train.numel(), valid.numel()) > o.window + 1,
          "emergence: texts of {} and {} bytes, expected more than a window of {}", train.numel(),
          valid.numel(), o.window);
  const Json json = {{"model_type", "gpt_neox"},           {"hidden_size", o.width},
                     {"num_hidden_layers", o.layers},      {"num_attention_heads", o.heads},
                     {"intermediate_size", 4 * o.width},   {"vocab_size", 256},
                     {"max_position_embeddings", o.window}};
  auto model = lm::initialise(lm::config_from_json(json, "emergence"), seed + 1);
  const auto checkpoints = trained(model, train, o, seed);

  const torch::NoGradGuard no_grad;
  lm::TrainingLoss loss(model);
  const auto spectrum = [&](const lm::Transformer& of, double theta = 150) {
    return mean_spectrum(of, o.samples, {.theta = theta}, SpectrumFilter::none,
                         {.nodes = std::min<int64_t>(32, o.width / 2)});
  };
  struct Spectra {
    SpectrumMean at_150, at_100, at_200, shuffled, normal;
  };
  std::optional<Spectra> start;
  Emergence out;
  for (const auto& [step, weights] : checkpoints) {
    put(model, weights);
    EmergenceMoment now{.step = step};
    for (int64_t k = 0; k < o.valid_batches; ++k) {
      const auto b = windows(valid, o, kValid, k);
      const auto share = 1 / static_cast<double>(o.valid_batches);
      now.loss += share * loss(b[0], b[1]).item<double>();
      now.accuracy +=
          share * model->forward(b[0]).argmax(-1).eq(b[1]).to(torch::kDouble).mean().item<double>();
    }
    now.tails = weight_tails(edge_layers(model));
    Spectra s{spectrum(model), spectrum(model, 100), spectrum(model, 200), {}, {}};
    replace(model, seed, permuted);
    s.shuffled = spectrum(model);
    put(model, weights);
    replace(model, seed, redrawn_like);
    s.normal = spectrum(model);
    if (!start) start = s;
    now.alpha_0 = s.at_150.alpha_0, now.alpha_0_sd = s.at_150.alpha_0_sd;
    now.width = s.at_150.width, now.width_sd = s.at_150.width_sd;
    now.strange = s.at_150.rising + s.at_150.turning;
    now.e = emergence(start->at_150, s.at_150);
    now.theta_100 = emergence(start->at_100, s.at_100);
    now.theta_200 = emergence(start->at_200, s.at_200);
    now.shuffled = emergence(start->shuffled, s.shuffled);
    now.normal = emergence(start->normal, s.normal);
    out.moments.push_back(now);
  }
  for (int64_t k = 0; k < o.redrawn; ++k)
    out.redrawn.push_back(emergence(
        start->at_150,
        spectrum(lm::initialise(model->config, 1000 * (seed + 1) + static_cast<uint64_t>(k)))));
  return out;
}

}  // namespace cajal::atlas
