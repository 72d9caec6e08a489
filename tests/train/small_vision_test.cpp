#include "cajal/train/small_vision.h"

#include <gtest/gtest.h>

namespace cajal::train {
namespace {

/// The class is the half of the picture that is bright.
Labelled halves(int64_t count) {
  const auto y = torch::randint(2, {count}, torch::kLong);
  auto x = torch::randn({count, 8, 8}) * 0.3;
  for (int64_t i = 0; i < count; ++i)
    x[i].slice(0, 4 * y[i].item<int64_t>(), 4 * y[i].item<int64_t>() + 4).add_(1);
  return {x.flatten(1), y};
}

TEST(SmallVision, LearnsWithDenseNetworksAndWithTrees) {
  torch::manual_seed(1);
  const ClassifierData data{"halves", halves(256), halves(64), halves(64)};
  const SmallVisionOptions options{.image = 8,
                                   .patch = 4,
                                   .classes = 2,
                                   .width = 16,
                                   .layers = 1,
                                   .heads = 2,
                                   .neurons = 32,
                                   .epochs = 10,
                                   .batch = 32,
                                   .learning_rate = 3e-3};
  EXPECT_GT(fit_small_vision(options, data), 0.9);
  EXPECT_GT(fit_small_vision(options, data, TreesOf{.leaf_width = 2, .depth = 3}), 0.9);
}

}  // namespace
}  // namespace cajal::train
