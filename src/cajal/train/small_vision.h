#pragma once
#include <optional>

#include "cajal/core/options.h"
#include "cajal/train/classifier.h"

namespace cajal::train {

/// A small vision transformer for square images of one channel, and its training.
struct SmallVisionOptions {
  int64_t image = 28, patch = 7, classes = 10;
  int64_t width = 64, layers = 4, heads = 4, neurons = 128;
  int64_t epochs = 12, batch = 64;
  double learning_rate = 1e-3;
  double hardness = 3;  // weight of the trees' mean node entropy, reached half way
};
CAJAL_OPTIONS(SmallVisionOptions, image, patch, classes, width, layers, heads, neurons, epochs,
              batch, learning_rate, hardness)

/// Trees in place of a transformer's FFNs.
struct TreesOf {
  int64_t leaf_width = 1, depth = 7;
};

/// Test accuracy after training with dense FFNs of `neurons`, or with trees, which learn by
/// straight-through decisions and are judged on their hard path. x of the data is [rows, image²].
/// Draws from libtorch's generator.
double fit_small_vision(const SmallVisionOptions& options, const ClassifierData& data,
                        std::optional<TreesOf> trees = {});

}  // namespace cajal::train
