#include "cajal/text/sampling.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "cajal/core/error.h"

namespace cajal::text {

int32_t most_likely(std::span<const float> logits) {
  require(!logits.empty(), "sampling: there are no logits");
  require(logits.size() <= INT32_MAX, "sampling: {} logits are too many", logits.size());
  size_t best = 0;
  bool nan = false;
  for (size_t i = 0; i < logits.size(); ++i) {
    nan = nan || std::isnan(logits[i]);
    if (logits[i] > logits[best]) best = i;
  }
  require(!nan, "sampling: a logit is NaN");
  require(logits[best] > -std::numeric_limits<float>::infinity(),
          "sampling: every logit is -infinity");
  return static_cast<int32_t>(best);
}

Sampler::Sampler(SamplingOptions options) : options_(options), random_(options.seed) {
  require(options_.temperature >= 0 && std::isfinite(options_.temperature),
          "sampling: temperature is {}, expected 0 or more", options_.temperature);
  require(options_.top_k >= 0, "sampling: top_k is {}, expected 0 or more", options_.top_k);
  require(options_.top_p > 0 && options_.top_p <= 1, "sampling: top_p is {}, expected 0 to 1",
          options_.top_p);
}

int32_t Sampler::operator()(std::span<const float> logits) {
  const int32_t likely = most_likely(logits);
  const float top = logits[static_cast<size_t>(likely)];
  if (options_.temperature == 0 || options_.top_k == 1 || std::isinf(top)) return likely;

  choices_.clear();
  for (size_t i = 0; i < logits.size(); ++i)
    choices_.push_back({logits[i], static_cast<int32_t>(i)});
  const auto likelier = [](const Choice& a, const Choice& b) {
    return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
  };
  if (options_.top_k > 0 && options_.top_k < static_cast<int64_t>(choices_.size())) {
    std::ranges::nth_element(choices_, choices_.begin() + options_.top_k, likelier);
    choices_.resize(static_cast<size_t>(options_.top_k));
  }
  if (options_.top_p < 1 || options_.top_k > 0) std::ranges::sort(choices_, likelier);

  double total = 0;
  weights_.clear();
  for (const auto& choice : choices_) {
    weights_.push_back(std::exp((static_cast<double>(choice.logit) - top) / options_.temperature));
    total += weights_.back();
  }
  if (options_.top_p < 1) {
    double kept = 0;
    size_t count = 0;
    while (count < weights_.size() && kept < options_.top_p * total) kept += weights_[count++];
    weights_.resize(count);
    total = kept;
  }
  double left = random_.uniform() * total;
  for (size_t i = 0; i < weights_.size(); ++i) {
    left -= weights_[i];
    if (left < 0) return choices_[i].id;
  }
  // Rounding left a little over: the last token that can be drawn takes it.
  size_t last = weights_.size() - 1;
  while (last > 0 && weights_[last] == 0) --last;
  return choices_[last].id;
}

}  // namespace cajal::text
