#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <utility>

#include "cajal/models/lm/adapted.h"

namespace cajal::train {

struct TuningOptions {
  int64_t steps = 100;
  double rate = 1e-3;         // of AdamW, constant
  double weight_decay = 0.1;  // of matrices
  double clip = 1;            // of the gradient's norm
};

/// What a few steps of tuning took. Times are medians, in milliseconds.
struct TuningCost {
  double loss = 0;  // of the last step
  double forward = 0, backward = 0, step = 0;
  int64_t peak_bytes = 0;  // high-water mark of what libtorch's allocator gave out: weights,
                           // gradients, moments, activations, temporaries
  int64_t parameters = 0;  // that were tuned
};
CAJAL_OPTIONS(TuningCost, loss, forward, backward, step, peak_bytes, parameters)

/// ids and targets i64 [batch, tokens] of a step.
using TuningBatch = std::function<std::pair<torch::Tensor, torch::Tensor>(int64_t step)>;

/// Windows of `length` tokens at places of a text that `seed` and the step draw, and their next
/// tokens. Throws Error for a text that is not longer than a window.
TuningBatch windows(std::span<const int32_t> ids, int64_t length, int64_t batch, uint64_t seed);

/// Tunes what the model has to tune. Throws Error when the loss is no number.
TuningCost tune(lm::Adapted& model, const TuningBatch& batch, const TuningOptions& options);

/// Makes the model by `make` and tunes it inside of one memory meter.
TuningCost tune_metered(const std::function<lm::Adapted()>& make, const TuningBatch& batch,
                        const TuningOptions& options);

}  // namespace cajal::train
