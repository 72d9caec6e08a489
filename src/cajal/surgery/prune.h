#pragma once
#include <cstdint>
#include <vector>

#include "cajal/atlas/census.h"
#include "cajal/models/lm/transformer.h"

/// Neurons that a model can do without, taken out of its FFNs for good.
namespace cajal::surgery {

/// Neurons of every layer, ascending.
using KeptNeurons = std::vector<std::vector<int64_t>>;

/// Those that ever fired in the census: without the others the logits of its text stay the same.
KeptNeurons alive_neurons(const atlas::Census& census);

/// As many of every layer as `like` keeps, those with the largest product of key and value length:
/// what pruning by magnitude keeps at the same width.
KeptNeurons longest_neurons(const atlas::Census& census, const KeptNeurons& like);

/// Drops the rows of all other neurons from the FFNs of `model`, in place, and returns the share of
/// the neurons that went. Throws Error when the numbers of layers differ and for an FFN that is
/// gated, split into groups or quantised.
double keep_neurons(lm::Transformer& model, const KeptNeurons& kept);

}  // namespace cajal::surgery
