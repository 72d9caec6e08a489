#pragma once
#include "cajal/atlas/confidence.h"

namespace cajal::atlas {

struct PlantedReadoutOptions {
  bool layer_norm = true;  // else RMSNorm
  int64_t width = 96, neurons = 384, vocabulary = 2000, tokens = 128;
  int64_t null_directions = 8;
  double length = 6;  // of entropy neurons' value rows; the others have length 1
};

/// A last layer, readout and stream whose confidence neurons are known: some directions of the
/// stream are read by no token and one moves all logits along the log unigram frequencies. Neurons
/// 0 to 7 are entropy neurons (they write where nothing reads, at repeats), 8 to 15 token frequency
/// neurons, the others write what tokens read. Drawn from libtorch's generator.
/// Source: dossier confidence-neurons, Data.
struct PlantedReadout {
  static constexpr int64_t of_a_kind = 8;
  Readout readout;
  LastStream stream;
  torch::Tensor unigram;
  std::vector<int64_t> counts;  // of tokens, [vocabulary]
};
PlantedReadout plant_readout(const PlantedReadoutOptions& options);

}  // namespace cajal::atlas
