#pragma once
#include "cajal/atlas/census.h"
#include "cajal/models/lm/transformer.h"

namespace cajal::surgery {

/// One FFN whose energy is spread over its neurons as one asks: random keys and values, N(0, 1)
/// inputs, and values scaled by exp(sigma g) with g ~ N(0, 1). sigma = 0 has no heavy hitters.
/// Source: dossier ffsplit, "Data".
struct SyntheticFfn {
  lm::Config config;  // width, neurons, law
  lm::FeedForward ffn;
  torch::Tensor inputs;  // [tokens, width]
  atlas::LayerCensus census;
};
SyntheticFfn synthetic_ffn(Activation law, bool gated, int64_t width, int64_t neurons, double sigma,
                           int64_t tokens, uint64_t seed);

/// max |FFN(x) - FFN'(x)| / max |FFN(x)|, and E ||FFN(x) - FFN'(x)||^2 / E ||FFN(x)||^2.
struct OutputError {
  double largest = 0, mean_square = 0;
};
OutputError output_error(const SyntheticFfn& subject, const lm::FeedForward& changed);

}  // namespace cajal::surgery
