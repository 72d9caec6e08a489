#pragma once
#include "cajal/core/options.h"
#include "cajal/surgery/functions.h"

namespace cajal::surgery {

/// What counts as more than chance.
struct SpecialisationOptions {
  int64_t shuffles = 200;
  uint64_t seed = 0;
  /// The null hands out the labels of whole windows; tokens of a window depend on one another, and
  /// shuffled one by one (false) they make the null too narrow.
  bool by_window = true;
  /// Only a token's rank among the tokens of the same id counts. Functions differ in their ids, so
  /// that without this every neuron that hears an id passes for specialised, in an untrained
  /// network too.
  bool beyond_ids = true;
};
CAJAL_OPTIONS(SpecialisationOptions, shuffles, seed, by_window, beyond_ids)

/// How much each neuron (of all layers, one after another) has to do with each function; all are
/// [functions, neurons].
struct Specialisation {
  torch::Tensor precision;  // fp64: average precision of the norm as a detector of the function
  torch::Tensor null_mean, null_deviation;  // of the same under shuffled labels
  torch::Tensor frequency;                  // P(among the token's top tenth | function)
  torch::Tensor log_ratio;                  // ln of that frequency over its mean over the functions
  torch::Tensor special;  // bool: 3 deviations above the null, and discovered at a false discovery
                          // rate of 5 % over all functions and neurons
  /// Share of the neurons that are special for some function.
  double share() const { return special.any(0).to(torch::kDouble).mean().item<double>(); }
};

/// Throws Error for one function alone and for fewer than two shuffles.
Specialisation specialise(const FunctionActivity& activity,
                          const SpecialisationOptions& options = {});

}  // namespace cajal::surgery
