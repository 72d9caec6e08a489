#pragma once
#include "cajal/atlas/attribution.h"

namespace cajal::atlas {

/// Heads and neurons of a model that are kept while all others are set to their means.
/// Source: dossier arithmetic-heuristics, Build 3.
struct Circuit {
  std::vector<torch::Tensor> heads;    // bool [heads], one a layer
  std::vector<torch::Tensor> neurons;  // bool [neurons], one a layer, in stored order
};
Circuit whole_circuit(const lm::Config& config);
Circuit empty_circuit(const lm::Config& config);

/// The points that a circuit is made of: every layer's attn.hook_z and mlp.hook_post.
std::vector<std::string> circuit_points();

/// Makes passes with `hooks` keep the circuit and set everything else to `means` (see `means` of
/// patching.h, over `circuit_points`).
void keep_only(lm::Hooks& hooks, const Circuit& circuit, const Recording& means);

/// (NL_circuit - NL_none) / (NL_whole - NL_none), NL the mean over prompts of the right answer's
/// logit over the largest logit at the last position: 1 for the whole model, 0 with everything at
/// its mean. ids [prompts, tokens], answers [prompts].
double faithfulness(lm::Transformer& model, const torch::Tensor& ids, const torch::Tensor& answers,
                    const Circuit& circuit, const Recording& means);

/// Share of prompts whose largest logit at the last position is the answer.
double answer_accuracy(lm::Transformer& model, const torch::Tensor& ids,
                       const torch::Tensor& answers, lm::Hooks* hooks = nullptr);

/// The effect (mean over prompts of the metric) of patching each part from the source prompts:
/// [layers, heads + 1, tokens], the last row of a layer its feed-forward network.
torch::Tensor patching_effects(lm::Transformer& model, const torch::Tensor& ids,
                               const torch::Tensor& source, const Metric& metric);

/// Heads are added in the order of |effect| summed over positions until the circuit of those heads
/// and all neurons is `target` faithful.
struct HeadGrowth {
  Circuit circuit;
  std::vector<std::pair<int64_t, int64_t>> heads;  // {layer, head} in the order added
  std::vector<double> faithfulness;                // after each
};
HeadGrowth grow_heads(lm::Transformer& model, const torch::Tensor& ids,
                      const torch::Tensor& answers, const Recording& means,
                      const torch::Tensor& effects, double target);

}  // namespace cajal::atlas
