#pragma once
#include <cmath>
#include <functional>
#include <vector>

#include "cajal/models/lm/transformer.h"
#include "cajal/text/sampling.h"

namespace cajal::lm {

/// Continues `prompt` until `max_tokens` new ids, an end id of the config (which is kept), or the
/// end of the context; calls `on_token` for each new id (return false to stop). Returns prompt and
/// continuation. Throws Error for an empty prompt, one longer than the context, ids out of range,
/// and a model without a language head.
std::vector<int32_t> generate(Transformer& model, const std::vector<int32_t>& prompt,
                              int64_t max_tokens, const text::SamplingOptions& sampling,
                              const std::function<bool(int32_t)>& on_token = {});

struct Evaluation {
  int64_t tokens = 0;  // predicted
  int64_t bytes = 0;   // of text they stand for
  double nats = 0;     // total loss
  double seconds = 0;
  double loss() const { return nats / static_cast<double>(tokens); }
  double perplexity() const { return std::exp(loss()); }
  double bits_per_byte() const { return nats / std::log(2.0) / static_cast<double>(bytes); }
};

/// Loss over `ids` in windows that do not overlap: window i reads ids[i C .. i C + C) and predicts
/// the ids one further, so that every id but the first is predicted once. `batch` windows run at a
/// time, through `hooks` where given. Logits are made in slices, so memory does not grow with
/// batch x vocabulary.
/// Throws Error for fewer than two ids and for a context beyond the model's.
Evaluation evaluate(Transformer& model, const std::vector<int32_t>& ids, int64_t bytes,
                    int64_t context, int64_t batch, Hooks* hooks = nullptr);

}  // namespace cajal::lm
