#pragma once
#include <algorithm>
#include <cstdint>
#include <string_view>
#include <vector>

#include "cajal/core/options.h"
#include "cajal/core/torch.h"

/// Learning without a gradient through the whole network: every part has its own loss and its own
/// optimiser, and what it hands on is cut from the graph.
namespace cajal::train {

enum class LocalRule {
  adam,   // weight decay is added to the gradient
  adamw,  // weight decay shrinks the weights beside the step
  sgd,    // with momentum; weight decay is added to the gradient
};

struct LocalOptions {
  LocalRule rule = LocalRule::adam;
  double learning_rate = 1e-3;
  double beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8;
  double momentum = 0.9;  // of sgd
  double weight_decay = 0;
  double clip = 0;  // of the gradient's norm over the part; 0 = none
};
CAJAL_OPTIONS(LocalOptions, rule, learning_rate, beta1, beta2, epsilon, momentum, weight_decay,
              clip)

/// Throws Error naming the field when a value makes no sense.
void check(const LocalOptions& options, std::string_view where);

/// The optimiser of one part of a network. Elements may be frozen: they keep every bit, whatever
/// the loss, momentum or weight decay says.
/// Sources: Adam arXiv 1412.6980; AdamW arXiv 1711.05101.
class LocalOptimizer {
 public:
  /// Throws Error for parameters that are not leaves that require a gradient.
  LocalOptimizer(std::vector<torch::Tensor> parameters, const LocalOptions& options);

  /// Steps down the gradient of `loss` ([]) with respect to these parameters alone, and frees its
  /// graph. Parameters that the loss does not reach stay as they are.
  void step(const torch::Tensor& loss);
  /// The same for gradients at hand, one a parameter, undefined where there is none.
  void apply(const std::vector<torch::Tensor>& gradients);

  /// Only elements where `trainable` (bool, the parameter's shape) is true learn from now on; the
  /// momentum of the others is forgotten. An undefined mask frees all.
  void freeze(size_t parameter, const torch::Tensor& trainable);

  /// The share of the learning rate that steps take from now on: what a schedule sets.
  void set_rate(double share) { share_ = share; }

  const std::vector<torch::Tensor>& parameters() const { return parameters_; }

 private:
  void step_in_place(size_t i, const torch::Tensor& value, torch::Tensor gradient);

  std::vector<torch::Tensor> parameters_, first_, second_, trainable_;
  const LocalOptions options_;
  double share_ = 1;
  int64_t steps_ = 0;
};

/// Cosine from 1 at step 0 to 0 at `steps`.
double cosine_rate(int64_t step, int64_t steps);

/// The leaves whose gradient `loss` would compute, found by walking its graph: what a backward pass
/// reaches, without running it.
std::vector<torch::Tensor> reached_by(const torch::Tensor& loss);

/// Whether a backward pass from `loss` reaches none of `parameters`.
bool isolated(const torch::Tensor& loss, const std::vector<torch::Tensor>& parameters);

/// 0 ... count - 1 in a random order of libtorch's CPU generator, cut into batches i64 [<= batch].
std::vector<torch::Tensor> shuffled_batches(int64_t count, int64_t batch);

/// `body` on every run of `batch` rows of x, in order; its results [rows, ...] put together.
template <class Body>
torch::Tensor in_batches(const torch::Tensor& x, int64_t batch, const Body& body) {
  std::vector<torch::Tensor> out;
  for (int64_t begin = 0; begin < x.size(0); begin += batch)
    out.push_back(body(x.narrow(0, begin, std::min(batch, x.size(0) - begin))));
  return torch::cat(out);
}

}  // namespace cajal::train

CAJAL_ENUM(cajal::train::LocalRule, {cajal::train::LocalRule::adam, "adam"},
           {cajal::train::LocalRule::adamw, "adamw"}, {cajal::train::LocalRule::sgd, "sgd"})
