#pragma once
#include <span>
#include <vector>

#include "cajal/core/torch.h"
#include "cajal/models/lm/transformer.h"

// What other ways of matching the neurons of two models say than correlation, and neurons that
// switch attention off. Source: dossier universal-neurons, "Compare against" and Build 8.
namespace cajal::atlas {

/// Neurons of all layers counted through, n1 of the first and n2 of the second model.
struct OtherMatches {
  torch::Tensor overlap;     // fp32 [n1, n2] tokens at which both fire over those at which any does
  torch::Tensor keys;        // fp32 [n1, n2] cosine of the key rows
  torch::Tensor same_index;  // fp64 [n] correlation of neuron i with neuron i
};
/// Throws Error for models of different widths or numbers of neurons.
OtherMatches match_otherwise(lm::Transformer& a, lm::Transformer& b, std::span<const int32_t> ids,
                             int64_t context, int64_t batch = 8);

/// A neuron whose value row lies along what a head of a later layer asks for when it looks at the
/// first token: score = w_n W_Q k / sqrt(d). Before and after: the head's mean attention to that
/// token, at positions from 64 on (short texts: behind their first quarter) where the neuron fires,
/// with the neuron's part in the head's query and without it.
struct HeadSwitch {
  int64_t from = 0, neuron = 0, layer = 0, head = 0;
  double score = 0, before = 0, after = 0;
  bool as_the_score_says() const { return (before - after) * score > 0; }
};
/// Those of the largest |score|, at most `most`, that fire at all; ids i64 [batch, tokens], the
/// begin token first. Throws Error unless the model has LayerNorm, learned positions and separate
/// query matrices (OPT).
std::vector<HeadSwitch> head_switches(lm::Transformer& model, const torch::Tensor& ids,
                                      int64_t most = 20);

}  // namespace cajal::atlas
