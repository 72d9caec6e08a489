#pragma once
#include <vector>

#include "cajal/surgery/functions.h"

// The part of a network that one function needs, as a network of its own.
namespace cajal::surgery {

/// What the neurons of each layer are worth, fp32 [neurons].
using NeuronScores = std::vector<torch::Tensor>;

/// Mean |a| ‖w‖ on the tokens of a function, or of all (-1).
NeuronScores mean_norms(const FunctionActivity& activity, int64_t function);

/// The root of the mean square of |a| ‖w‖ on the same tokens: Wanda's weight times the norm of its
/// input, summed over what a neuron writes. Source: Sun et al. 2023, arXiv 2306.11695.
NeuronScores wanda_scores(const FunctionActivity& activity, int64_t function);

/// How often each is among the tenth of neurons with the largest norm: PowerInfer's hot neurons.
NeuronScores use_counts(const FunctionActivity& activity, int64_t function);

/// ‖key‖ ‖value‖, with gates times ‖gate‖: magnitude.
NeuronScores weight_sizes(const lm::Transformer& model);

/// The model without all neurons but the best `kept` of each layer, which are taken out of the
/// weights. Throws Error for other numbers of scores than of neurons.
lm::Transformer network_of(const lm::Transformer& model, const NeuronScores& scores, int64_t kept);

}  // namespace cajal::surgery
