#pragma once
#include <vector>

#include "cajal/atlas/multifractal.h"

namespace cajal::atlas {

struct EmergenceOptions {
  int64_t layers = 2, width = 64, heads = 4;  // of a GPT-NeoX on bytes
  int64_t window = 64, batch = 16, steps = 1024;
  double rate = 2e-3;
  int64_t samples = 10;       // graphs a spectrum
  int64_t valid_batches = 8;  // for loss and accuracy
  int64_t redrawn = 8;        // other initialisations
};
CAJAL_OPTIONS(EmergenceOptions, layers, width, heads, window, batch, steps, rate, samples,
              valid_batches, redrawn)

/// A checkpoint while training: its spectrum, its degree of emergence E, and what else one could
/// read off the same weights.
struct EmergenceMoment {
  int64_t step = 0;
  double loss = 0, accuracy = 0;  // of the next byte of validation text
  double alpha_0 = 0, alpha_0_sd = 0, width = 0, width_sd = 0;
  int64_t strange = 0;                  // samples that are no spectrum in the strict sense
  double e = 0;                         // at theta 150
  double theta_100 = 0, theta_200 = 0;  // E there
  double shuffled = 0;                  // E of the same weights, each matrix permuted
  double normal = 0;                    // E of normal weights with each matrix's deviation
  WeightTails tails = {};
};
CAJAL_OPTIONS(EmergenceMoment, step, loss, accuracy, alpha_0, alpha_0_sd, width, width_sd, strange,
              e, theta_100, theta_200, shuffled, normal, tails)

struct Emergence {
  std::vector<EmergenceMoment> moments;  // after 0, 1, 2, 4 ... steps and at the end
  std::vector<double> redrawn;           // E of other initialisations against the start's
};
CAJAL_OPTIONS(Emergence, moments, redrawn)

/// Trains a small language model on bytes i64 [tokens] and looks at it on the way; every spectrum
/// samples the same nodes. The same seed gives the same run.
/// Source: dossier neuromfa, "Reproduce".
Emergence follow_emergence(const torch::Tensor& train, const torch::Tensor& valid,
                           const EmergenceOptions& options, uint64_t seed);

}  // namespace cajal::atlas
