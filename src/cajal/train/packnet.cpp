#include "cajal/train/packnet.h"

#include "cajal/core/error.h"

namespace cajal::train {

PackNet::PackNet(TaskNet given, const PackNetOptions& options)
    : net(std::move(given)), options_(options) {
  require(net->heads.empty(), "packnet: the net has {} heads, expected none", net->heads.size());
  require(options.prune >= 0 && options.prune < 1, "packnet: prune: expected 0 to below 1, got {}",
          options.prune);
  require(options.retrain_epochs >= 0, "packnet: retrain_epochs: expected 0 or more, got {}",
          options.retrain_epochs);
  for (const auto& layer : net->layers)
    owner_.push_back(torch::zeros(layer.weight.sizes(), torch::kShort));
}

double PackNet::free_share(size_t layer) const {
  return owner_.at(layer).eq(0).to(torch::kDouble).mean().item<double>();
}

torch::Tensor PackNet::owned_up_to(size_t layer, size_t task) const {
  const auto& owner = owner_[layer];
  return owner.gt(0).logical_and(owner.le(static_cast<int64_t>(task) + 1));
}

/// Trains the task's head and its weights: those that nobody owns, or those that it owns.
void PackNet::train(size_t task, const Samples& data, int64_t epochs, bool free_weights) {
  auto training = options_.training;
  training.epochs = epochs;
  TaskRules rules;
  rules.prepare = [&](LocalOptimizer& optimizer) {
    const auto mine = free_weights ? 0 : static_cast<int64_t>(task) + 1;
    for (size_t l = 0; l < owner_.size(); ++l) {
      optimizer.freeze(2 * l, owner_[l].eq(mine));
      // Biases are shared by all tasks: only the first may move them.
      if (task > 0)
        optimizer.freeze(2 * l + 1, torch::zeros_like(net->layers[l].bias, torch::kBool));
    }
  };
  train_task(net, task, data, training, rules);
}

void PackNet::learn(const StreamTask& data) {
  for (size_t l = 0; l < owner_.size(); ++l)
    require(owner_[l].eq(0).any().item<bool>(),
            "packnet: layer {} has no free weight left after {} tasks; give a larger `prune`", l,
            net->heads.size());
  const auto task = net->add_head();
  train(task, data.train, options_.training.epochs, true);
  {
    const torch::NoGradGuard no_grad;
    for (size_t l = 0; l < owner_.size(); ++l) {
      auto& weight = net->layers[l].weight;
      const auto free = owner_[l].eq(0);
      const auto size = weight.detach().abs().masked_select(free);
      const auto given_back =
          static_cast<int64_t>(options_.prune * static_cast<double>(size.numel()));
      auto kept = free;
      if (given_back > 0) {
        const auto limit = std::get<0>(size.kthvalue(given_back));
        kept = free.logical_and(weight.abs().gt(limit));
      }
      owner_[l].masked_fill_(kept, static_cast<int64_t>(task) + 1);
      weight.mul_(owner_[l].gt(0));
    }
  }
  if (options_.retrain_epochs > 0) train(task, data.train, options_.retrain_epochs, false);
  for (auto* parameter : {&net->heads[task].weight, &net->heads[task].bias})
    parameter->set_requires_grad(false);
}

TaskNet PackNet::task_net(size_t task) const {
  require(task < net->heads.size(), "packnet: no task {} of {}", task, net->heads.size());
  const torch::NoGradGuard no_grad;
  TaskNet out(net->options);
  for (size_t l = 0; l < owner_.size(); ++l) {
    out->layers[l].weight.copy_(net->layers[l].weight * owned_up_to(l, task));
    out->layers[l].bias.copy_(net->layers[l].bias);
  }
  for (size_t s = 0; s < net->heads.size(); ++s) {
    out->add_head();
    out->heads[s].weight.copy_(net->heads[s].weight), out->heads[s].bias.copy_(net->heads[s].bias);
  }
  return out;
}

}  // namespace cajal::train
