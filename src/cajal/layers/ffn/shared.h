#pragma once
#include <map>
#include <string>
#include <vector>

#include "cajal/core/options.h"
#include "cajal/core/torch.h"
#include "cajal/layers/ffn/dense.h"

namespace cajal {

/// The feed-forward networks of a stack of layers: "own", "none" or "shared:GROUP" for each.
using FfnPlan = std::vector<std::string>;

/// Feed-forward networks by plan; a group's network exists once, wherever it is used, so that its
/// gradient is the sum over its uses and a file holds it once.
/// Parameters: own_PLACE.* and shared_GROUP.*, each those of dense_feed_forward.
class FfnBankImpl : public torch::nn::Module {
 public:
  FfnBankImpl(int64_t width, int64_t neurons, int64_t shared_neurons, Activation law);

  /// The network of an entry, made when its name is new; nullptr for "none". `place` names an own
  /// one. Throws Error for an entry that is none of the three.
  std::shared_ptr<DenseFeedForwardImpl> find(const std::string& entry, const std::string& place);

 private:
  int64_t width_, neurons_, shared_neurons_;
  Activation law_;
  std::map<std::string, std::shared_ptr<DenseFeedForwardImpl>> made_;
};
TORCH_MODULE(FfnBank);

struct SharedFeedForwardOptions {
  int64_t width = 0;           // features in and out
  int64_t neurons = 0;         // of an own network
  int64_t shared_neurons = 0;  // of a shared network; 0 = neurons
  FfnPlan plan = {};           // one entry a layer
  Activation law = Activation::relu;
  bool share_norm = false;  // layers of a group also share their norm
  double epsilon = 1e-5;
};
CAJAL_OPTIONS(SharedFeedForwardOptions, width, neurons, shared_neurons, plan, law, share_norm,
              epsilon)

/// The feed-forward sub-layers of a stack under a plan: for each layer that is not "none",
/// x <- x + FFN(norm(x)), norm a layer norm with weight and bias of its own.
/// Shapes: x [..., width] -> y [..., width]; norm_I.{weight,bias} [width]; bank.own_I.* and
/// bank.shared_GROUP.* as dense_feed_forward. Throws Error for a plan that names nothing.
/// Source: Pires et al. 2023, arXiv 2309.01826; dossier one-wide-ffn.
class SharedFeedForwardImpl : public torch::nn::Module {
 public:
  explicit SharedFeedForwardImpl(const SharedFeedForwardOptions& options);
  torch::Tensor forward(const torch::Tensor& x) const;

  const SharedFeedForwardOptions options;

 private:
  struct Step {
    torch::Tensor weight, bias;
    std::shared_ptr<DenseFeedForwardImpl> network;
  };
  std::vector<Step> steps_;
};
TORCH_MODULE(SharedFeedForward);

/// Neurons of one shared network with which a model has as many parameters as before:
/// (base - without - width) / (2 width + 1), rounded to a multiple of `multiple`, where `base` are
/// all parameters of the model with its own networks and `without` those of it without any.
int64_t wide_neurons(int64_t base, int64_t without, int64_t width, int64_t multiple = 64);

}  // namespace cajal
