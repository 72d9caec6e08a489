#pragma once
#include <span>
#include <vector>

#include "cajal/core/options.h"
#include "cajal/core/progress.h"
#include "cajal/models/lm/transformer.h"
#include "cajal/surgery/router.h"

namespace cajal::surgery {

/// How the neurons of a layer are put into experts.
enum class ExpertSplit {
  kmeans,        // by the direction of their keys (gates): balanced k-means
  coactivation,  // by the tokens on which they fire together: graph partition
  activity,      // by what they write on the same tokens: balanced k-means of their profiles
  random,        // a control
};

/// How the experts that a token may use are spread over the layers.
enum class LayerShares {
  even,      // as many in each
  by_gains,  // as many in all, where they leave out least: the sum over layers of the share of
             // gains
};

struct MoefyOptions {
  int64_t experts = 0;  // 0: of 32 neurons where a layer has 1,024 or more, else of 16
  double ratio = 0.25;  // of the experts that a token uses, rounded up
  int64_t active = 0;   // instead of `ratio`: how many
  LayerShares shares = LayerShares::even;
  ExpertSplit split = ExpertSplit::kmeans;
  RouterKind router = RouterKind::mlp;
  RouterOptions training = {};
  int64_t tokens = 16384;   // of the text that routers and co-activation are learned from
  bool compensate = false;  // the mean of what is left out goes into the output bias
  uint64_t seed = 0;
};

/// What became of a layer. Gains are the sums of activations of experts (layers/ffn/experts.h).
struct MoefyReport {
  double fired = 0;          // share of (token, neuron) with |activation| > 1 % of the largest
  double inertia = 0;        // kmeans: mean squared distance of unit keys from their centre
  double captured = 0;       // share of the best experts' gains that the router's have, held back
  double mass = 0;           // share of all gains that the chosen experts have, held back
  int64_t dead_experts = 0;  // never chosen on the held-back tokens
  double use_entropy = 0;    // of the choices over experts; 1 = all alike
};

/// Experts that `options` asks for in layers of `neurons` neurons, and how many a token uses.
/// Throws Error for experts that do not divide the neurons and for a ratio or number out of range.
struct ExpertCounts {
  int64_t experts = 0, active = 0;
};
ExpertCounts expert_counts(const MoefyOptions& options, int64_t neurons);

/// Neurons in the order of their experts, `experts` equal runs. `listens` [neurons, width] are
/// keys, gates where there are gates; `writes` [tokens, neurons], the size of what each neuron
/// writes, is read by coactivation (0 or not) and activity alone. Throws Error for numbers that are
/// not finite.
struct ExpertOrder {
  std::vector<int32_t> order;
  double inertia = 0;  // kmeans: mean squared distance of a unit key from its centre
};
ExpertOrder expert_order(ExpertSplit split, const torch::Tensor& listens,
                         const torch::Tensor& writes, int64_t experts, uint64_t seed);

/// How many of the experts each layer uses when `total` are used in all, so that the sum over the
/// layers of the share of gains [tokens, experts] that the best ones hold is largest; at least one
/// in each layer.
std::vector<int64_t> spread(const std::vector<torch::Tensor>& gains, int64_t total);

/// Cuts every FFN of a model into experts behind routers, in memory: the neurons change places, the
/// weights stay. What a layer reads is that of the unchanged model on the text.
/// Throws Error when the model is split, quantised, shared or cut already, when options do not fit,
/// when the text is shorter than a window and when activations are not finite (naming the layer).
/// Source: dossier moefication.
std::vector<MoefyReport> moefy(lm::Transformer& model, std::span<const int32_t> ids,
                               const MoefyOptions& options, Progress* progress = nullptr);

/// The same model with the neurons of every layer in the order of `experts` equal clusters of their
/// keys (gates); it computes what it did. Throws Error as moefy does for a model that is no plain
/// one.
lm::Transformer clustered(const lm::Transformer& model, int64_t experts, uint64_t seed = 0);

/// Replaces the law of every neuron by ReLU and goes on training all weights for `steps` steps.
/// Throws Error for a text shorter than a window.
void relufy(lm::Transformer& model, std::span<const int32_t> ids, int64_t steps, uint64_t seed = 0);

/// Ends training in memory (`tune`, `relufy`): no weight needs a gradient, matrices get `type`.
void settle(lm::Transformer& model, torch::Dtype type);

}  // namespace cajal::surgery

CAJAL_ENUM(cajal::surgery::ExpertSplit, {cajal::surgery::ExpertSplit::kmeans, "kmeans"},
           {cajal::surgery::ExpertSplit::coactivation, "coactivation"},
           {cajal::surgery::ExpertSplit::activity, "activity"},
           {cajal::surgery::ExpertSplit::random, "random"})
CAJAL_ENUM(cajal::surgery::LayerShares, {cajal::surgery::LayerShares::even, "even"},
           {cajal::surgery::LayerShares::by_gains, "by_gains"})
