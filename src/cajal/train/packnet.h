#pragma once
#include <vector>

#include "cajal/train/continual.h"

/// Continual learning by packing: each task prunes the weights it trained by magnitude, keeps the
/// large ones for good and leaves the others to the tasks that come. CLNP's near relative, with
/// masks over weights in place of neurons. Source: Mallya, Lazebnik 2018, arXiv 1711.05769.
namespace cajal::train {

struct PackNetOptions {
  TaskTraining training = {};
  double prune = 0.75;         // share of the weights it trained that a task gives back, by layer
  int64_t retrain_epochs = 5;  // of what it kept, after pruning; 0 = none
};
CAJAL_OPTIONS(PackNetOptions, training, prune, retrain_epochs)

/// Learns tasks into one net of fixed size; the hidden biases are those of the first task.
class PackNet {
 public:
  /// `net` must have no heads yet. Throws Error for options without sense.
  PackNet(TaskNet net, const PackNetOptions& options);

  /// Trains on all free weights, prunes, trains the kept ones again and freezes them. Throws Error
  /// when a layer has no free weight.
  void learn(const StreamTask& task);

  /// The net as `task` sees it, without the weights of later tasks; the heads of all.
  TaskNet task_net(size_t task) const;
  torch::Tensor forward(const torch::Tensor& x, size_t task) const {
    return task_net(task)->forward(x, task);
  }

  /// Share of a layer's weights that no task owns.
  double free_share(size_t layer) const;

  TaskNet net;

 private:
  torch::Tensor owned_up_to(size_t layer, size_t task) const;
  void train(size_t task, const Samples& data, int64_t epochs, bool free_weights);

  PackNetOptions options_;
  std::vector<torch::Tensor> owner_;  // of each weight, i16: 0 nobody, t + 1 task t
};

}  // namespace cajal::train
