#pragma once
#include <string>
#include <vector>

#include "cajal/atlas/patching.h"

namespace cajal::atlas {

enum class LogitParts {
  layers,  // one part for each attention layer and each feed-forward network
  heads,   // attention by head
  neurons  // attention by head, feed-forward networks by neuron
};

/// What each part of a pass adds to chosen logits.
struct LogitAttribution {
  struct Part {
    std::string name;  // "embed", "blocks.3.attn", "blocks.3.attn.heads", "blocks.3.mlp",
                       // "blocks.3.mlp.neurons", "blocks.3.attn.bias", "norms", "unembed.bias", ...
    torch::Tensor values;  // [batch, tokens], or [batch, tokens, heads or neurons]
  };
  std::vector<Part> parts;
  torch::Tensor logits;  // [batch, tokens], of the pass, before a cap: the sum of all parts

  const torch::Tensor& at(std::string_view name) const;  // throws Error for a name not there
  torch::Tensor sum() const;                             // of all parts, [batch, tokens]
};

/// Direct logit attribution: the logit of `targets` [batch, tokens] (minus that of `others`, where
/// defined) as an exact sum over what embeddings, heads, neurons and biases write, read through the
/// norms that follow with the scales of this pass. Only direct paths: what later layers make of a
/// part counts as theirs. Every family with a language or masked head; the law of a masked head's
/// transform is passed by its integrated slope, so that the sum stays exact.
/// Source: dossier _language-model (fold_ln) and confidence-neurons.
LogitAttribution direct_logit_attribution(lm::Transformer& model, const torch::Tensor& input,
                                          const torch::Tensor& targets,
                                          LogitParts parts = LogitParts::layers,
                                          const torch::Tensor& others = {}, lm::Pass pass = {});

/// What one unit of a direction in the final residual stream adds to each logit when the final
/// norm's scale is `scale` (1: the shape of the effect): the unembedding with the norm's weight
/// folded in and, for layer norms, its mean over the width removed. [vocabulary, width]
torch::Tensor folded_unembedding(const lm::Transformer& model);

}  // namespace cajal::atlas

CAJAL_ENUM(cajal::atlas::LogitParts, {cajal::atlas::LogitParts::layers, "layers"},
           {cajal::atlas::LogitParts::heads, "heads"},
           {cajal::atlas::LogitParts::neurons, "neurons"})
