#include <gtest/gtest.h>

#include "cajal/core/error.h"
#include "cajal/train/tree_classifier.h"

namespace cajal::train {
namespace {

ClassifierData task() {
  return tree_classes({.count = 512, .features = 6, .depth = 2, .classes = 3});
}

TEST(Classifier, ATreeLearnsARegionTask) {
  torch::manual_seed(1);
  FastFeedForward layer(
      FastFeedForwardOptions{.width = 6, .outputs = 3, .leaf_width = 6, .depth = 2});
  const auto score =
      fit_tree(layer, task(), {{.epochs = 40}}, {.batch = 64, .learning_rate = 1e-2});
  EXPECT_GT(score.test, 0.6);
  EXPECT_LT(score.entropy, 0.4);  // undecided nodes have ln 2
}

TEST(Classifier, KeepsTheEpochWithTheBestValidation) {
  torch::manual_seed(1);
  FastFeedForward layer(FastFeedForwardOptions{.width = 6, .outputs = 3, .leaf_width = 4});
  const auto data = task();
  const auto score = fit_tree(layer, data, {{.epochs = 10}}, {.learning_rate = 1e-2});
  EXPECT_EQ(accuracy([&](const torch::Tensor& x) { return layer->infer(x); }, data.valid),
            score.valid);
}

TEST(Classifier, ExpertsLearnARegionTask) {
  torch::manual_seed(1);
  SparseMemoryOptions options{
      .width = 6, .outputs = 3, .neurons = 24, .block = 6, .active_blocks = 2};
  options.selector = Selector::noisy_top_k, options.bias = true, options.deviation = 0;
  options.losses = true;
  SparseMemory layer(options);
  EXPECT_GT(fit_experts(layer, task(), {.batch = 64, .learning_rate = 1e-2}).test, 0.6);
}

TEST(Classifier, ALossThatIsNoNumberIsAnError) {
  auto data = task();
  data.train.x.fill_(NAN);
  FastFeedForward layer(FastFeedForwardOptions{.width = 6, .outputs = 3, .leaf_width = 4});
  EXPECT_THROW(fit_tree(layer, data, {{.epochs = 1}}), Error);
}

}  // namespace
}  // namespace cajal::train
