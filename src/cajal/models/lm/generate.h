#pragma once
#include <functional>
#include <vector>

#include "cajal/models/lm/transformer.h"
#include "cajal/text/sampling.h"

namespace cajal::lm {

/// Continues `prompt` until `max_tokens` new ids, an end id, or the end of the context; calls
/// `on_token` for each new id (return false to stop). Returns prompt and continuation.
std::vector<int32_t> generate(Transformer& model, const std::vector<int32_t>& prompt,
                              int64_t max_tokens, const text::Sampling& sampling,
                              const std::function<bool(int32_t)>& on_token = {});

struct Evaluation {
  int64_t tokens = 0, bytes = 0;  // predicted tokens; bytes of text they stand for
  double nats = 0;                // total loss
  double seconds = 0;
  double loss() const { return nats / static_cast<double>(tokens); }
  double perplexity() const;
  double bits_per_byte() const;
};

/// Loss over `ids` in windows of `context` tokens that do not overlap (each window's first token is
/// context only unless a begin id stands before it).
Evaluation evaluate(Transformer& model, const std::vector<int32_t>& ids, int64_t bytes,
                    int64_t context, int64_t batch);

}  // namespace cajal::lm
