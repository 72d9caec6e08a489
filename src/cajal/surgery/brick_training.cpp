#include "cajal/surgery/brick_training.h"

#include <torch/nn/utils/clip_grad.h>
#include <torch/optim/adam.h>

#include <cmath>

#include "cajal/core/error.h"
#include "cajal/layers/ops.h"
#include "cajal/surgery/brick_parts.h"

namespace cajal::surgery {
namespace {

// Our names of matrices by those of an adapted model's corrections.
constexpr std::pair<const char*, const char*> kModules[] = {
    {"fused", "attention.fused"}, {"query", "attention.query"},   {"key", "attention.key"},
    {"value", "attention.value"}, {"output", "attention.output"}, {"ffn_key", "ffn.key"},
    {"ffn_gate", "ffn.gate"},     {"ffn_value", "ffn.value"}};

}  // namespace

std::vector<Brick> bricks_of(const std::string& prefix, const lm::Adapted& adapted,
                             const std::string& base) {
  const torch::NoGradGuard no_grad;
  const auto& o = adapted->options;
  require(!o.embedding && o.blocks == 0 && o.rank > 0,
          "bricks: adapters of matrices of attention and FFN only, not of embeddings or routes");
  const double scale = o.alpha > 0 ? o.alpha / static_cast<double>(o.rank) : 1;
  const auto parameters = adapted->named_parameters();
  std::vector<Brick> out;
  for (int64_t layer = 0; parameters.contains(fmt::format("layers_{}.output_left", layer)); ++layer)
    for (const auto& [theirs, ours] : kModules) {
      const auto* left = parameters.find(fmt::format("layers_{}.{}_left", layer, theirs));
      if (left == nullptr) continue;
      const auto right = parameters[fmt::format("layers_{}.{}_right", layer, theirs)];
      std::string module = ours;
      for (auto& c : module) c = c == '.' ? '-' : c;
      Brick brick{.card = {.id = fmt::format("{}/{}/{}", prefix, layer, module),
                           .kind = BrickKind::low_rank,
                           .layer = layer,
                           .module = ours,
                           .tags = {},
                           .base = base},
                  .tensors = {}};
      brick.tensors["left"] = left->detach().clone();
      brick.tensors["right"] = right.detach() * scale;
      out.push_back(std::move(brick));
    }
  return out;
}

std::vector<Brick> train_low_rank(const std::string& prefix, const lm::Transformer& model,
                                  const train::TuningBatch& batch, const LowRankTraining& o) {
  require(o.rank > 0, "bricks: a rank of {}", o.rank);
  lm::Adapted adapted(trainable_copy(model),
                      lm::AdapterOptions{.rank = o.rank,
                                         .alpha = o.alpha,
                                         .embedding = false,
                                         .blocks = 0,
                                         .attention = lm::AdaptedAttention::dense},
                      o.seed);
  train::tune(adapted, batch, o.tuning);
  return bricks_of(prefix, adapted, content_hash(model));
}

std::vector<Brick> train_neurons(std::vector<Brick> bricks, const lm::Transformer& model,
                                 const train::TuningBatch& batch,
                                 const train::TuningOptions& options) {
  require(options.steps > 0, "bricks: {} steps", options.steps);
  auto grown = own_copy(model);
  const auto hash = content_hash(model);
  std::vector<torch::Tensor> parameters;
  for (auto& brick : bricks) {
    require(brick.card.kind == BrickKind::key_value, "brick '{}': only neurons are trained here",
            brick.card.id);
    check(brick, model, hash);
    for (auto& [name, tensor] : brick.tensors) {
      if (name == "embedding") continue;
      tensor = tensor.detach().to(torch::kFloat).clone().requires_grad_();
      parameters.push_back(tensor);
    }
    const auto part = [&](const char* name) {
      const auto found = brick.tensors.find(name);
      return found == brick.tensors.end() ? torch::Tensor() : found->second;
    };
    lm::NeuronGroup group;
    group.key = Matrix::dense(part("key"));
    if (part("gate").defined()) group.gate = Matrix::dense(part("gate"));
    group.value = Matrix::dense(part("value"), Major::input);
    group.key_bias = part("key_bias");
    grown->blocks[static_cast<size_t>(brick.card.layer)].ffn.groups.push_back(std::move(group));
  }
  torch::optim::Adam adam(parameters, torch::optim::AdamOptions(options.rate).betas({0.9, 0.95}));
  for (int64_t step = 0; step < options.steps; ++step) {
    const auto [ids, targets] = batch(step);
    adam.zero_grad();
    const auto loss = ops::cross_entropy(grown->forward(ids).flatten(0, 1), targets.reshape({-1}));
    require(std::isfinite(loss.item<double>()), "bricks: the loss of step {} is no number", step);
    loss.backward();
    if (options.clip > 0) torch::nn::utils::clip_grad_norm_(parameters, options.clip);
    adam.step();
  }
  for (auto& brick : bricks)
    for (auto& [name, tensor] : brick.tensors) tensor = tensor.detach();
  return bricks;
}

lm::Transformer train_all(const lm::Transformer& model, const train::TuningBatch& batch,
                          const train::TuningOptions& options) {
  auto copy = trainable_copy(model);
  lm::Adapted adapted(
      copy,
      lm::AdapterOptions{
          .rank = 0, .embedding = false, .blocks = 0, .attention = lm::AdaptedAttention::dense},
      0);
  train::tune(adapted, batch, options);
  return own_copy(copy);
}

}  // namespace cajal::surgery
