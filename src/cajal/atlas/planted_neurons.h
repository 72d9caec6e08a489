#pragma once
#include <cstdint>
#include <vector>

#include "cajal/atlas/census.h"
#include "cajal/models/lm/transformer.h"

// Models whose neurons are known, to prove the census and the detectors on.
namespace cajal::atlas {

struct PlantedOptions {
  int64_t layers = 4, width = 128, neurons = 2048, vocabulary = 4096, context = 256;
  int64_t tokens = 200000;
  uint64_t seed = 0;
};

enum class PlantedKind { background, dead, token, bigram, range, oscillatory };

/// A ReLU decoder (OPT) that writes the token before into a subspace of its stream, with neurons
/// that were made for a purpose, and a text for it. Token and bigram detectors write the embedding
/// of their trigger with a minus.
/// Source: dossier dead-ngram-positional, "Data" (b).
struct PlantedNeurons {
  lm::Transformer model{nullptr};
  std::vector<int32_t> text;
  std::vector<std::vector<PlantedKind>> kind;  // [layers][neurons]
};

/// Throws Error when there is no room for the subspaces (width 64 at least) or kinds.
PlantedNeurons plant_neurons(const PlantedOptions& options);

/// How well one kind of planted neuron is told from the others.
struct Recovery {
  int64_t planted = 0, found = 0, both = 0;
  double precision() const { return found > 0 ? static_cast<double>(both) / found : 0; }
  double recall() const { return planted > 0 ? static_cast<double>(both) / planted : 0; }
};

/// [kinds, in the order of PlantedKind] what a census of the planted model over its text, with
/// tables and bigrams, makes of every neuron. Throws Error for another model or text.
std::vector<Recovery> recover(const PlantedNeurons& planted, const Census& census);

}  // namespace cajal::atlas
