#pragma once
#include "cajal/models/small/nets.h"

namespace cajal::train {

/// Trains on windows of `text` (characters, i64 [count]) by Adam at 5e-3, batches of 16 windows of
/// 48 characters, and returns the bits that a character of `held` takes. Draws from libtorch's
/// generator. Throws Error for texts shorter than a window.
double fit_characters(CharacterModel& model, const torch::Tensor& text, const torch::Tensor& held,
                      int64_t steps);

}  // namespace cajal::train
