#pragma once
#include <vector>

#include "cajal/core/options.h"
#include "cajal/core/torch.h"

namespace cajal {

enum class LocalRule { sgd, adam };

struct LocalStepOptions {
  LocalRule rule = LocalRule::adam;
  double learning_rate = 1e-3;
  double batch = 1;                                   // uses of a block between two steps of it
  double momentum = 0, dampening = 0;                 // sgd
  bool nesterov = false;                              // sgd
  double beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8;  // adam
  double weight_decay = 0;                            // added to the gradient
};
CAJAL_OPTIONS(LocalStepOptions, rule, learning_rate, batch, momentum, dampening, nesterov, beta1,
              beta2, epsilon, weight_decay)

/// Optimiser whose step is taken block by block: row i of every parameter is block i (a node or a
/// leaf of a fast feedforward layer), and it is stepped only when usage[i] >= batch, with its
/// gradient since its last step times batch / usage[i]. Blocks that are not due keep values,
/// moments and gradient; blocks that were stepped start anew with usage 0.
/// Source: LocalSGD and LocalAdam of Belcak, Wattenhofer 2023, arXiv 2308.14711; dossier
/// fast-feedforward (which names what their code does to blocks that are not due).
class LocalSteps {
 public:
  /// `usage` [blocks] is the layer's counter and is written here. Throws Error when a parameter has
  /// another number of rows, or options make no sense.
  LocalSteps(std::vector<torch::Tensor> parameters, torch::Tensor usage,
             const LocalStepOptions& options);

  /// Steps the blocks that are due, by the gradients that `backward` has added up; zeroes theirs.
  void step();

  const LocalStepOptions options;

 private:
  void sgd(size_t p, const torch::Tensor& due, torch::Tensor gradient);
  void adam(size_t p, const torch::Tensor& due, const torch::Tensor& gradient);

  std::vector<torch::Tensor> parameters_, first_, second_;
  torch::Tensor usage_, steps_;  // [blocks]
};

}  // namespace cajal

CAJAL_ENUM(cajal::LocalRule, {cajal::LocalRule::sgd, "sgd"}, {cajal::LocalRule::adam, "adam"})
