#pragma once
#include <span>
#include <string>
#include <vector>

#include "cajal/models/lm/transformer.h"

// What the neurons of a model are for, measured on texts of known functions.
// Source: Xiao et al. 2024, arXiv 2409.02877; dossier bricks, analyses A1 to A5.
namespace cajal::surgery {

/// A function, given by a text that needs it.
struct FunctionText {
  std::string name = {};
  std::vector<int32_t> ids = {};
};

/// |a_i| ‖w_i‖ of every FFN neuron on the tokens of every function.
struct FunctionActivity {
  std::vector<std::string> names = {};
  std::vector<torch::Tensor> norms = {};  // of each layer, fp32 [tokens, neurons]
  torch::Tensor function = {};            // i64 [tokens]: of which one the token is
  torch::Tensor window = {};              // i64 [tokens]: in which window, numbered through all
  torch::Tensor id = {};                  // i64 [tokens]

  int64_t neurons() const;         // of all layers
  torch::Tensor layer_of() const;  // i64 [neurons of all layers]
};

/// Runs no more than `tokens` of each text in whole windows of `context`. Throws Error for a text
/// shorter than a window and for activations that are not finite.
FunctionActivity record(lm::Transformer& model, std::span<const FunctionText> texts, int64_t tokens,
                        int64_t context);

/// bool like norms [tokens, neurons]: the `share` of neurons (at least one) with the largest norm
/// at each token.
torch::Tensor top_of_token(const torch::Tensor& norms, double share);

/// How a token's neurons are kept.
enum class KeepRule { largest, random };

/// Keeps of every token only the `share` of its neurons with the largest output norm, or as many
/// random ones, in every pass that uses these hooks; `layer` -1 = all layers.
void attach_kept(lm::Hooks& hooks, const lm::Transformer& model, double share, KeepRule rule,
                 int64_t layer = -1);

/// The neurons with the highest scores [neurons], the best first: i64 [count].
torch::Tensor top_neurons(const torch::Tensor& scores, int64_t count);

/// The model with these neurons (numbered through all layers) silenced.
lm::Transformer pruned(const lm::Transformer& model, const torch::Tensor& neurons);

/// Communities of a layer's neurons: groups by co-activation on the first half of the tokens,
/// judged on the graph of the second half, in which every neuron has edges to the `nearest` others
/// that correlate most with it.
struct Communities {
  std::vector<int32_t> group;  // of each neuron
  double q = 0, null_mean = 0, null_deviation = 0;
  double within = 0, between = 0;  // mean correlation of pairs, on the second half
  double stability = 0;            // adjusted Rand index with the groups of the second half
  double z() const { return null_deviation > 0 ? (q - null_mean) / null_deviation : 0; }
};
/// The null rewires the graph with its degrees kept, `nulls` times. Throws Error unless `groups`
/// divide the neurons.
Communities communities(const torch::Tensor& norms, int64_t groups, int64_t nearest = 8,
                        int64_t nulls = 20, uint64_t seed = 0);

}  // namespace cajal::surgery
