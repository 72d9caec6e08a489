#include "cajal/models/small/benchmark_net.h"

#include <gtest/gtest.h>

#include "cajal/core/error.h"

namespace {
using namespace cajal;
using enum BenchmarkNetKind;

int64_t weights(BenchmarkNetKind kind) {
  int64_t count = 0;
  for (const auto& p : BenchmarkNet(BenchmarkNetOptions{.kind = kind})->parameters())
    count += p.numel();
  return count;
}

// Counts of the usual CIFAR forms with ten classes; VGG16 without biases under its norms.
TEST(BenchmarkNet, HasTheWeightsOfThePublishedForms) {
  EXPECT_EQ(weights(resnet18), 11'173'962);
  EXPECT_EQ(weights(resnet50), 23'520'842);
  EXPECT_EQ(weights(mobilenet_v1), 3'217'226);
  EXPECT_EQ(weights(densenet121), 6'956'298);
  EXPECT_EQ(weights(vgg16), 14'724'042);
}

TEST(BenchmarkNet, EveryKindRunsWithALearnedActivationAChannel) {
  for (const auto kind :
       {vgg16, mobilenet_v1, resnet18, resnet50, senet18, googlenet, densenet121}) {
    BenchmarkNet net(BenchmarkNetOptions{
        .kind = kind, .activation = "prelu:per_channel", .colours = 1, .width = 0.0625});
    const auto y = net->forward(torch::randn({2, 1, 28, 28}));
    EXPECT_EQ(y.sizes().vec(), (std::vector<int64_t>{2, 10})) << to_name(kind);
    y.sum().backward();
    for (const auto& p : net->named_parameters())
      EXPECT_TRUE(p.value().grad().defined()) << to_name(kind) << " " << p.key();
  }
}

TEST(BenchmarkNet, RefusesPicturesOfOtherColours) {
  BenchmarkNet net(BenchmarkNetOptions{.width = 0.0625});
  EXPECT_THROW(net->forward(torch::zeros({1, 1, 32, 32})), Error);
  EXPECT_THROW(BenchmarkNet(BenchmarkNetOptions{.width = 0}), Error);
}

}  // namespace
