#pragma once
#include <cstdint>
#include <span>

#include "cajal/core/options.h"
#include "cajal/core/random.h"

namespace cajal::text {

struct SamplingOptions {
  double temperature = 0;  // 0: the most likely token
  int64_t top_k = 0;       // only the k most likely tokens; 0: all
  double top_p = 1;        // only the most likely tokens that together have this probability
  uint64_t seed = 0;
};
CAJAL_OPTIONS(SamplingOptions, temperature, top_k, top_p, seed)

/// Draws tokens from logits by temperature, then top-k, then top-p; the same seed gives the same
/// tokens on every machine that computes the same logits.
/// Source: top-p is Holtzman 2020, arXiv 1904.09751.
class Sampler {
 public:
  /// Throws Error when an option is out of range.
  explicit Sampler(SamplingOptions options);

  /// The id drawn from logits [vocabulary]; of equal logits the lowest id is the more likely one.
  /// Throws Error when they are empty, one is NaN, or none is finite or +infinity.
  int32_t operator()(std::span<const float> logits);

 private:
  struct Choice {
    float logit;
    int32_t id;
  };

  SamplingOptions options_;
  Random random_;
  std::vector<Choice> choices_;
  std::vector<double> weights_;
};

/// The id of the largest logit, the lowest of equals. Throws as Sampler does.
int32_t most_likely(std::span<const float> logits);

}  // namespace cajal::text
