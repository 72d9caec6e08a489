#pragma once
#include <functional>
#include <vector>

#include "cajal/train/local.h"

/// Tasks that come one after another, a net with a head for each, and what keeps old tasks alive.
namespace cajal::train {

struct Samples {
  torch::Tensor x, y;  // x [n, ...], y i64 [n]
};

/// One task of a stream; classes are numbered from 0 in each.
struct StreamTask {
  Samples train, valid, test;
};

/// The same pictures with their pixels permuted, each task in its own way, the first not at all.
std::vector<StreamTask> permuted_tasks(const StreamTask& all, int64_t tasks, uint64_t seed);

/// Classes `per_task` at a time, in order; what does not fill a task is left out.
std::vector<StreamTask> split_tasks(const StreamTask& all, int64_t classes, int64_t per_task);

struct TaskNetOptions {
  int64_t channels = 1, height = 28, width = 28;  // of the pictures
  std::vector<int64_t> filters = {};  // 3 x 3 convolutions; 2 x 2 max-pooling after every second
  std::vector<int64_t> hidden = {400, 400};  // dense layers
  int64_t classes = 10;                      // of every task
};
CAJAL_OPTIONS(TaskNetOptions, channels, height, width, filters, hidden, classes)

/// A ReLU net without normalisation: convolutions, dense layers, a head a task on the last hidden
/// layer. A unit is a neuron or a filter. Weights [units, units below (x positions)] or [units,
/// units below, 3, 3].
class TaskNetImpl : public torch::nn::Module {
 public:
  explicit TaskNetImpl(const TaskNetOptions& options);

  struct Layer {
    torch::Tensor weight, bias;
    bool convolution = false, pooled = false;
    int64_t positions = 1;  // columns of a dense layer's weight for each unit below
  };
  struct Head {
    torch::Tensor weight, bias;
  };

  /// Outputs to give units instead of what they compute: out · keep + constant, each [units];
  /// undefined leaves a layer as it is.
  struct Override {
    torch::Tensor keep, constant;
  };

  /// ReLU outputs of every hidden layer, before pooling: [batch, units] or [batch, units, h, w].
  /// x [batch, pixels] or [batch, channels, height, width].
  std::vector<torch::Tensor> hidden(const torch::Tensor& x,
                                    const std::vector<Override>& overrides = {}) const;
  torch::Tensor logits(const std::vector<torch::Tensor>& hidden, size_t task) const;
  torch::Tensor forward(const torch::Tensor& x, size_t task,
                        const std::vector<Override>& overrides = {}) const {
    return logits(hidden(x, overrides), task);
  }

  /// A head for the next task; returns its number.
  size_t add_head();

  int64_t units(size_t layer) const { return layers.at(layer).weight.size(0); }
  int64_t units_below(size_t layer) const;    // of the input: channels or pixels
  std::vector<torch::Tensor> shared() const;  // weights and biases of the hidden layers

  const TaskNetOptions options;
  std::vector<Layer> layers;
  std::vector<Head> heads;

 private:
  torch::Tensor step(const Layer& layer, const torch::Tensor& x) const;
};
TORCH_MODULE(TaskNet);

/// He's normal start for a ReLU layer, in place; biases become 0.
void start_relu(torch::Tensor& weight, torch::Tensor& bias);

struct TaskTraining {
  int64_t epochs = 10, batch = 256;
  LocalOptions optimizer = {};
};
CAJAL_OPTIONS(TaskTraining, epochs, batch, optimizer)

/// A pull back to old weights, strength · Σ importance (θ - θ*)² / 2 summed over tasks, of the
/// net's shared parameters.
class QuadraticPenalty {
 public:
  explicit QuadraticPenalty(double strength) : strength_(strength) {}

  /// Adds the importance of a task at the weights `anchor`.
  void add(const std::vector<torch::Tensor>& importance, const std::vector<torch::Tensor>& anchor);
  /// Sums the importance but pulls to the newest anchor alone.
  void add_and_move(const std::vector<torch::Tensor>& importance,
                    const std::vector<torch::Tensor>& anchor);
  /// Its gradient for parameter i at `value`; undefined before the first task.
  torch::Tensor gradient(size_t i, const torch::Tensor& value) const;

 private:
  double strength_;
  std::vector<torch::Tensor> weight_, pull_;
};

/// Diagonal Fisher information of the shared parameters: mean squared gradient of the log
/// likelihood of labels that the net itself draws, over `samples` pictures.
/// Source: Kirkpatrick et al. 2017, arXiv 1612.00796.
std::vector<torch::Tensor> fisher_diagonal(const TaskNet& net, const torch::Tensor& x, size_t task,
                                           int64_t samples);

/// How much each weight lowered the loss along its way, over the square of the way: the importance
/// of synaptic intelligence. Source: Zenke, Poole, Ganguli 2017, arXiv 1703.04200.
class PathIntegral {
 public:
  PathIntegral(std::vector<torch::Tensor> parameters, double damping = 0.1);
  void before_step();
  /// Gradients of the task's loss alone, one a parameter.
  void after_step(const std::vector<torch::Tensor>& gradients);
  std::vector<torch::Tensor> importance() const;

 private:
  std::vector<torch::Tensor> parameters_, begin_, before_, sum_;
  double damping_;
};

/// What training on a task adds to plain cross entropy; anything may be left out.
struct TaskRules {
  const QuadraticPenalty* penalty = nullptr;
  PathIntegral* path = nullptr;
  double weight_l1 = 0;                          // of the shared weights that may learn
  double activation_l1 = 0;                      // mean |activation| summed over the hidden layers
  std::function<void(LocalOptimizer&)> prepare;  // freezes parts; order: shared(), then the head
};

/// Trains the shared parameters and the head of `task` on its training part.
void train_task(TaskNet& net, size_t task, const Samples& data, const TaskTraining& training,
                const TaskRules& rules = {});

/// Share of right answers of a task's head.
double task_accuracy(const TaskNet& net, size_t task, const Samples& data,
                     const std::vector<TaskNetImpl::Override>& overrides = {});

}  // namespace cajal::train
