#pragma once
#include "cajal/core/options.h"
#include "cajal/surgery/moefy.h"

/// What experts are made of, checked where the answer is known, and timed.
namespace cajal::study {

/// The cost of a balanced assignment by auction over the exact one: 256 points to 8 centres.
double auction_over_exact();

/// The generator with a known answer, 32 topics of `each` neurons: adjusted Rand index of `split`,
/// and the share of the best tenth's gains that an mlp router captures.
std::vector<double> found_again(surgery::ExpertSplit split, double noise, int64_t each,
                                int64_t tokens, int64_t epochs, uint64_t seed);

struct LayerTime {
  double dense = 0, experts = 0, ratio = 0;  // seconds, seconds, dense over experts
};
CAJAL_OPTIONS(LayerTime, dense, experts, ratio)

/// Time of one FFN [width, 4 width] of bf16 rows, whole and with a quarter of `count` experts
/// behind an mlp router; `copies` of them in turn, so that no cache holds the weights.
LayerTime time_experts(int64_t width, int64_t count, int64_t batch, int copies, int rounds);

}  // namespace cajal::study
