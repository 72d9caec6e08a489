#pragma once
#include <vector>

#include "cajal/train/continual.h"

/// Continual learning by neural pruning: what a task uses is frozen, what it does not use is cut
/// off from the frozen part and given to the next task. Old answers never change by a bit.
/// Source: Golkar, Kagan, Cho 2019, arXiv 1903.04476; dossier clnp.
namespace cajal::train {

enum class ActivityStatistic {
  mean,       // of a unit's ReLU output; a unit that is off is silent
  deviation,  // standard deviation; a constant output moves into the biases that read it
};

enum class ThresholdSearch {
  net,     // one threshold for all layers
  layers,  // one a layer, from the last to the first
};

struct ClnpOptions {
  TaskTraining training = {};
  double weight_l1 = 3e-5;   // α, on the weights that may learn
  double activation_l1 = 0;  // the same on activations
  ActivityStatistic statistic = ActivityStatistic::mean;
  ThresholdSearch search = ThresholdSearch::net;
  double margin =
      0.002;          // accuracy on validation data that a task may lose, once; 0.002 = 0.2 points
  bool warm = false;  // the next task starts from what this one left in the free weights
  int64_t widen = 0;  // units added to a layer that has none free; 0 = an error says so
};
CAJAL_OPTIONS(ClnpOptions, training, weight_l1, activation_l1, statistic, search, margin, warm,
              widen)

/// What a task did to one layer.
struct LayerCapacity {
  int64_t units = 0, active_before = 0, taken = 0;
  int64_t reused = 0;  // old active units that carry over 1 % of the L1 mass into the taken ones
  int64_t frozen = 0, zeroed = 0, free = 0;  // parameters after the commit, biases included
  double threshold = 0;

  int64_t active() const { return active_before + taken; }
  double free_share() const {
    return static_cast<double>(units - active()) / static_cast<double>(units);
  }
  double reused_share() const {
    return active_before == 0 ? 0
                              : static_cast<double>(reused) / static_cast<double>(active_before);
  }
};
CAJAL_OPTIONS(LayerCapacity, units, active_before, taken, reused, frozen, zeroed, free, threshold)

struct CommitReport {
  double accuracy = 0, pruned_accuracy = 0;  // on validation data, before and after masking
  std::vector<LayerCapacity> layers;
};
CAJAL_OPTIONS(CommitReport, accuracy, pruned_accuracy, layers)

/// Learns tasks into one net of fixed size.
class NeuralPruning {
 public:
  /// `net` must have no heads yet. Throws Error for options without sense, and for `deviation` on a
  /// net with convolutions, whose padding makes no unit constant.
  NeuralPruning(TaskNet net, const ClnpOptions& options);

  /// Trains, prunes, commits and freezes. Throws Error when a layer has no free unit.
  CommitReport learn(const StreamTask& task);

  /// Units that belong to the first `tasks` tasks, bool [layers][units].
  const std::vector<torch::Tensor>& active_after(size_t tasks) const { return active_.at(tasks); }

  /// Logits of a task by the whole net.
  torch::Tensor forward(const torch::Tensor& x, size_t task) const { return net->forward(x, task); }

  /// A smaller dense net with one head that answers `task` with its own units alone.
  TaskNet extract(size_t task) const;

  TaskNet net;

 private:
  using Units = std::vector<torch::Tensor>;  // one tensor a layer

  void make_room();
  void widen(size_t layer, int64_t units);
  void prepare(LocalOptimizer& optimizer) const;
  struct Activity {
    Units value, mean;
  };
  Activity measure(const torch::Tensor& x) const;
  std::vector<TaskNetImpl::Override> masks(const Activity& activity,
                                           const std::vector<double>& thresholds) const;
  std::vector<double> thresholds(const Activity& activity, size_t task, const Samples& valid,
                                 double floor) const;
  void commit(const Units& active, const Activity& activity, size_t task);
  torch::Tensor columns_of(size_t layer, const torch::Tensor& units_below) const;
  CommitReport report(const Units& before, const Units& after, size_t task) const;

  ClnpOptions options_;
  std::vector<Units> active_;  // after 0, 1, ... tasks
};

}  // namespace cajal::train

CAJAL_ENUM(cajal::train::ActivityStatistic, {cajal::train::ActivityStatistic::mean, "mean"},
           {cajal::train::ActivityStatistic::deviation, "deviation"})
CAJAL_ENUM(cajal::train::ThresholdSearch, {cajal::train::ThresholdSearch::net, "net"},
           {cajal::train::ThresholdSearch::layers, "layers"})
