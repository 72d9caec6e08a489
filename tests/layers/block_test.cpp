#include <gtest/gtest.h>

#include "cajal/layers/vision/goodness_head.h"
#include "cajal/layers/vision/residual.h"
#include "gradcheck.h"

namespace {
using namespace cajal;

GoodnessHead head(GoodnessForm form, int64_t kernel = 1) {
  torch::manual_seed(2);
  GoodnessHeadOptions o{5, 7, kernel, form};
  GoodnessHead h(o);
  h->to(torch::kDouble);
  return h;
}

TEST(GoodnessHead, EqualsALoopOverClasses) {
  const auto x = torch::randn({3, 5, 4, 6}, torch::kDouble);
  for (const auto form : {GoodnessForm::direct, GoodnessForm::moments}) {
    const auto h = head(form);
    const auto y = h->forward(x);
    for (int64_t k = 0; k < 7; ++k) {
      const auto a = (x * h->weight[k].unsqueeze(0)).sum(1) + h->bias[k];
      EXPECT_LT((a.square().mean({1, 2}) - y.select(1, k)).abs().max().item<double>(), 1e-12)
          << to_name(form);
    }
  }
}

TEST(GoodnessHead, HasTheGradientsOfFiniteDifferencesInBothForms) {
  const auto x = torch::randn({2, 5, 3, 4}, torch::kDouble);
  for (const auto form : {GoodnessForm::direct, GoodnessForm::moments}) {
    const auto h = head(form);
    EXPECT_LT(
        cajal::testing::gradient_error([&] { return h->forward(x); }, {h->weight, h->bias, x}),
        1e-6);
  }
}

TEST(GoodnessHead, RefusesMomentsWithALargerKernel) {
  EXPECT_THROW(head(GoodnessForm::moments, 3), Error);
}

TEST(ResidualBlock, IsTheSumOfItsPathAndItsShortcut) {
  ResidualBlock block(ResidualBlockOptions{4, 6, 2});
  block->eval();
  const auto x = torch::randn({2, 4, 8, 8});
  const auto path = block->second->forward(block->first->forward(x));
  EXPECT_TRUE(torch::equal(block->forward(x), torch::relu(path + block->shortcut->forward(x))));
  EXPECT_EQ(block->forward(x).sizes(), (std::vector<int64_t>{2, 6, 4, 4}));
}

TEST(ConvNorm, UsesItsOwnBatchWhileTrainingAndRunningStatisticsOtherwise) {
  ConvNormOptions o{3, 4};
  o.law = Activation::identity;
  ConvNorm layer(o);
  const auto x = torch::randn({8, 3, 6, 6});
  const auto y = layer->forward(x);
  EXPECT_LT(y.mean({0, 2, 3}).abs().max().item<double>(), 1e-5);
  layer->eval();
  const auto raw = torch::conv2d(x, layer->weight, {}, 1, 1);
  const auto each = [](const torch::Tensor& t) { return t.view({1, -1, 1, 1}); };
  const auto expected = (raw - each(layer->mean)) / (each(layer->variance) + 1e-5).sqrt();
  EXPECT_TRUE(torch::allclose(layer->forward(x), expected, 1e-4, 1e-5));
}

TEST(InvertedResidual, AddsItsInputOnlyWhereTheShapeStays) {
  InvertedResidualOptions o{4, 4, 12};
  o.squeeze = true, o.law = Activation::hard_swish;
  InvertedResidual same(o);
  same->eval();
  const auto x = torch::randn({2, 4, 6, 6});
  const auto path = same->project->forward(
      same->gate->forward(same->depthwise->forward(same->expand->forward(x))));
  EXPECT_TRUE(torch::equal(same->forward(x), path + x));
  o.stride = 2;
  InvertedResidual smaller(o);
  EXPECT_EQ(smaller->forward(x).sizes(), (std::vector<int64_t>{2, 4, 3, 3}));
}

TEST(RoundChannels, FollowsMobileNet) {
  EXPECT_EQ(round_channels(16.0 / 4), 8);
  EXPECT_EQ(round_channels(72.0 / 4), 24);  // 18 would round to 16, below nine tenths
  EXPECT_EQ(round_channels(240.0 / 4), 64);
}

}  // namespace
