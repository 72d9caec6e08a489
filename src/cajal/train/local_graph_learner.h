#pragma once
#include <algorithm>
#include <functional>
#include <limits>
#include <vector>

#include "cajal/train/local_graph.h"
#include "cajal/train/saved_bytes.h"

// Shared by the learning rules of local_graph; not for others.
namespace cajal::train::graph_rules {

/// Watches a validation figure and keeps the weights that had the best one.
class Best {
 public:
  Best(std::vector<torch::Tensor> parameters, int64_t patience)
      : parameters_(std::move(parameters)), patience_(patience) {}

  /// Whether to go on.
  bool see(int64_t epoch, double figure) {
    if (figure > best_) {
      best_ = figure, since_ = epoch;
      kept_.clear();
      for (const auto& p : parameters_) kept_.push_back(p.detach().clone());
    }
    return epoch - since_ < patience_;
  }
  void restore() const {
    const torch::NoGradGuard no_grad;
    for (size_t i = 0; i < kept_.size(); ++i) parameters_[i].copy_(kept_[i]);
  }

 private:
  std::vector<torch::Tensor> parameters_, kept_;
  int64_t patience_, since_ = 0;
  double best_ = -std::numeric_limits<double>::infinity();
};

/// Epochs until validation says stop. `epoch` takes a training step and returns how well the
/// weights before the step do on validation nodes, which it is asked for when its argument says so.
int64_t train_until(const std::vector<torch::Tensor>& parameters, const GraphLearning& options,
                    int64_t& saved_bytes, const std::function<double(bool validate)>& epoch);

/// Share of right labels among `nodes`.
double share_right(const torch::Tensor& predicted, const torch::Tensor& labels,
                   const torch::Tensor& nodes);

/// The class scores of all nodes from the class nodes, [nodes, classes].
torch::Tensor class_scores(const torch::Tensor& h, const torch::Tensor& class_ids, int64_t nodes,
                           double temperature);

/// How many leaves a backward pass from `loss` would reach beyond `own`.
int64_t reached_beyond(const torch::Tensor& loss, const std::vector<torch::Tensor>& own);

struct Problem {
  const GraphTask& task;
  const NodeSplit& split;
  const GraphLearning& options;
  torch::Tensor train_labels;    // of split.train
  torch::Tensor class_features;  // N(0, 1) [classes, width]
};

GraphOutcome backprop(const Problem& problem, bool with_graph);
GraphOutcome single_forward(const Problem& problem);
GraphOutcome top_to_loss(const Problem& problem);
GraphOutcome top_to_input(const Problem& problem);
GraphOutcome forward_forward(const Problem& problem, bool class_nodes);

}  // namespace cajal::train::graph_rules
