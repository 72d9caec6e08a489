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

/// A layer of ReLU neurons whose experts are known: each neuron hears one of `topics` orthogonal
/// directions, its key that direction and noise of length `noise` in all; the bias is -0.5; tokens
/// are sums of three topics and noise of length 0.1. Drawn from libtorch's generator.
/// Source: dossier moefication, "Data".
struct SyntheticExperts {
  torch::Tensor topic;        // i64 [neurons]
  torch::Tensor key, inputs;  // [neurons, width], [tokens, width]
  torch::Tensor activations;  // [tokens, neurons]
};
SyntheticExperts synthetic_experts(int64_t topics, int64_t neurons_each, int64_t width,
                                   int64_t tokens, double noise);

}  // namespace cajal::surgery
