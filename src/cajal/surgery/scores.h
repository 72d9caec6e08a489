#pragma once
#include <cstdint>
#include <vector>

#include "cajal/atlas/census.h"
#include "cajal/core/options.h"

namespace cajal::surgery {

/// What makes a neuron a heavy hitter. Source: dossier ffsplit (Build 3).
enum class Score {
  hits,       // share of tokens at which it is among the tenth with the largest output norm
  mean_norm,  // E |a| ||w||
  energy,     // E a^2 ||w||^2
  weight,     // ||key|| ||value||: needs no text
  random,
};

/// Neurons from the largest score to the smallest; ties by output energy, then by index.
std::vector<int32_t> ranking(const atlas::LayerCensus& layer, Score score, uint64_t seed);

/// Neurons in the heavy group: `ratio` of all, rounded up to a multiple of 32 and at most all.
int64_t heavy_count(int64_t neurons, double ratio);

/// The heavy group itself, in the order of the ranking.
std::vector<int32_t> heavy_neurons(const atlas::LayerCensus& layer, Score score, double ratio,
                                   uint64_t seed = 0);

/// s: the share of the layer's output energy written by these neurons.
double energy_share(const atlas::LayerCensus& layer, const int32_t* begin, const int32_t* end);

/// |A and B| / |A or B| of two sets of neurons.
double jaccard(std::vector<int32_t> a, std::vector<int32_t> b);

}  // namespace cajal::surgery

CAJAL_ENUM(cajal::surgery::Score, {cajal::surgery::Score::hits, "hits"},
           {cajal::surgery::Score::mean_norm, "mean_norm"},
           {cajal::surgery::Score::energy, "energy"}, {cajal::surgery::Score::weight, "weight"},
           {cajal::surgery::Score::random, "random"})
