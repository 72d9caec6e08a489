#pragma once
#include "cajal/core/options.h"
#include "cajal/core/torch.h"
#include "cajal/engine/router.h"
#include "cajal/layers/ffn/sparse_memory.h"
#include "cajal/neurons/activation.h"

namespace cajal {

/// The parts of a feed-forward network whose neurons are cut into equal runs, experts.
/// Source: dossier moefication.
namespace experts {

/// Mean of the rows of each expert after these were brought to unit length: keys [neurons, width]
/// -> [experts, width].
torch::Tensor centres(const torch::Tensor& keys, int64_t experts);

/// Scores of a stored router for x [..., width] -> [..., experts]; not for an oracle.
torch::Tensor router_scores(RouterKind kind, const torch::Tensor& first,
                            const torch::Tensor& second, const torch::Tensor& x);

/// What each expert does, the scores of an oracle: Σ of positive activations, of |activation| where
/// `gated`: activations [..., neurons] -> [..., experts].
torch::Tensor gains(const torch::Tensor& activations, int64_t experts, bool gated);

/// 1 for the `active` largest of scores [..., experts], else 0.
torch::Tensor best(const torch::Tensor& scores, int64_t active);

/// The activations [..., neurons] of the experts whose `mask` [..., experts] is 1, else 0.
torch::Tensor keep(const torch::Tensor& activations, const torch::Tensor& mask);

/// Mean over tokens of the gains of the `active` experts with the best scores over those of the
/// `active` best experts: 1 for an oracle. Tokens for which nothing is to be gained count as 1.
double captured(const torch::Tensor& scores, const torch::Tensor& gains, int64_t active);

}  // namespace experts

struct ExpertFeedForwardOptions {
  int64_t width = 0;
  int64_t neurons = 0;  // of all experts
  int64_t experts = 0;  // equal runs of neurons
  int64_t active = 1;   // experts of a token
  RouterKind router = RouterKind::mlp;
  Activation law = Activation::relu;
  bool gated = false;
  bool bias = true;
  MemoryPath path = MemoryPath::automatic;
};
CAJAL_OPTIONS(ExpertFeedForwardOptions, width, neurons, experts, active, router, law, gated, bias,
              path)

/// Feed-forward network of which a token uses some experts, in the proportions of the whole: the
/// dense network with the other neurons set to 0.
/// y = Σ over the chosen experts e of W_eᵀ law(U_e x + b_e) + c; gated: law(G_e x + g_e) ∘ (U_e x +
/// b_e). The router's score multiplies nothing.
/// Shapes: x [..., width] -> y [..., width]; key, gate, value [neurons, width], bias_key, bias_gate
/// [neurons], bias_value [width]; first [experts, width], second [experts, experts].
/// Throws Error for options that do not fit together and for a wrong last axis of x.
/// Source: Zhang et al. 2022, arXiv 2110.01786; dossier moefication.
class ExpertFeedForwardImpl : public torch::nn::Module {
 public:
  explicit ExpertFeedForwardImpl(const ExpertFeedForwardOptions& options);
  torch::Tensor forward(const torch::Tensor& x) const;

  /// Activations of all neurons: rows [rows, width] -> [rows, neurons].
  torch::Tensor activations(const torch::Tensor& rows) const;
  /// Scores of the experts for rows [rows, width] -> [rows, experts].
  torch::Tensor scores(const torch::Tensor& rows) const;

  const ExpertFeedForwardOptions options;
  torch::Tensor key, gate, value, bias_key, bias_gate, bias_value, first, second;

 private:
  torch::Tensor run(const torch::Tensor& rows, int64_t begin, int64_t end) const;
  torch::Tensor grouped(const torch::Tensor& rows, const torch::Tensor& chosen) const;
  torch::Tensor gathered(const torch::Tensor& rows, const torch::Tensor& chosen) const;
};
TORCH_MODULE(ExpertFeedForward);

}  // namespace cajal
