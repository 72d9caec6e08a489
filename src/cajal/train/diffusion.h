#pragma once
#include <functional>
#include <utility>

#include "cajal/models/diffusion/schedule.h"

namespace cajal::train {

struct DiffusionOptions {
  int64_t steps = 3000;
  double rate = 1e-3;      // of Adam, falling to a tenth along a cosine
  double average = 0.995;  // decay of the moving average of the weights, which is kept
  double dropped = 0.1;    // share of captions replaced by none, for guidance
};
CAJAL_OPTIONS(DiffusionOptions, steps, rate, average, dropped)

/// Trains the model to predict the noise in (or, as the schedule says, the) pictures in [-1, 1];
/// `batch` gives pictures [batch, colours, size, size] and captions i64 [batch, words]. Returns the
/// mean loss of the last tenth. Throws Error when the loss is no number.
double train_diffusion(
    diffusion::TextToImage& model, const diffusion::Schedule& schedule,
    const std::function<std::pair<torch::Tensor, torch::Tensor>(int64_t step)>& batch,
    const DiffusionOptions& options);

}  // namespace cajal::train
