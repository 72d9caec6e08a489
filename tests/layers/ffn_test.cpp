#include <gtest/gtest.h>

#include "cajal/layers/ffn/dense.h"
#include "cajal/layers/ffn/gated.h"
#include "gradcheck.h"

namespace cajal {
namespace {

constexpr int64_t kWidth = 5, kNeurons = 7;

class FeedForward : public ::testing::Test {
 protected:
  void SetUp() override { torch::manual_seed(1); }

  DenseFeedForward dense{
      DenseFeedForwardOptions{.width = kWidth, .neurons = kNeurons, .law = Activation::gelu}};
  GatedFeedForward gated{
      GatedFeedForwardOptions{.width = kWidth, .neurons = kNeurons, .bias = true}};
};

TEST_F(FeedForward, DenseEqualsTheSumOverItsNeurons) {
  dense->to(torch::kDouble);
  const auto x = torch::randn({2, 3, kWidth}, torch::kDouble);
  auto sum = dense->bias_value.expand({2, 3, kWidth}).clone();
  for (int64_t i = 0; i < kNeurons; ++i) {
    const auto heard = (x * dense->key[i]).sum(-1, /*keepdim=*/true) + dense->bias_key[i];
    sum = sum + activate(Activation::gelu, heard) * dense->value[i];
  }
  EXPECT_TRUE(torch::allclose(dense(x), sum, 0, 1e-12));
}

TEST_F(FeedForward, GatedEqualsTheSumOverItsNeurons) {
  gated->to(torch::kDouble);
  const auto x = torch::randn({2, 3, kWidth}, torch::kDouble);
  auto sum = gated->bias_value.expand({2, 3, kWidth}).clone();
  for (int64_t i = 0; i < kNeurons; ++i) {
    const auto open = (x * gated->gate[i]).sum(-1, /*keepdim=*/true) + gated->bias_gate[i];
    const auto heard = (x * gated->key[i]).sum(-1, /*keepdim=*/true) + gated->bias_key[i];
    sum = sum + activate(Activation::silu, open) * heard * gated->value[i];
  }
  EXPECT_TRUE(torch::allclose(gated(x), sum, 0, 1e-12));
}

TEST_F(FeedForward, DenseHasTheGradientOfItsFunction) {
  dense->to(torch::kDouble);
  const auto x = torch::randn({2, kWidth}, torch::kDouble);
  auto inputs = dense->parameters();
  inputs.push_back(x);
  EXPECT_LT(testing::gradient_error([&] { return dense(x); }, inputs), 1e-7);
}

TEST_F(FeedForward, GatedHasTheGradientOfItsFunction) {
  gated->to(torch::kDouble);
  const auto x = torch::randn({2, kWidth}, torch::kDouble);
  auto inputs = gated->parameters();
  inputs.push_back(x);
  EXPECT_LT(testing::gradient_error([&] { return gated(x); }, inputs), 1e-7);
}

TEST_F(FeedForward, TheOrderOfTheNeuronsDoesNotMatter) {
  const auto x = torch::randn({4, kWidth});
  const auto before_dense = dense(x), before_gated = gated(x);
  const auto order = torch::randperm(kNeurons);
  const auto reorder = [&](torch::Tensor& rows) { rows.set_data(rows.index_select(0, order)); };
  for (auto* rows : {&dense->key, &dense->value, &dense->bias_key, &gated->gate, &gated->key,
                     &gated->value, &gated->bias_gate, &gated->bias_key})
    reorder(*rows);
  EXPECT_TRUE(torch::allclose(dense(x), before_dense, 1e-5, 1e-6));
  EXPECT_TRUE(torch::allclose(gated(x), before_gated, 1e-5, 1e-6));
}

TEST_F(FeedForward, RefusesAWrongWidthAndSaysWhichItWanted) {
  const auto message = [](const auto& layer) -> std::string {
    try {
      layer->forward(torch::zeros({2, kWidth + 1}));
    } catch (const Error& error) {
      return error.what();
    }
    return "accepted";
  };
  EXPECT_EQ(message(dense),
            "dense_feed_forward: x is [2, 6], expected [..., width] with width = 5");
  EXPECT_EQ(message(gated),
            "gated_feed_forward: x is [2, 6], expected [..., width] with width = 5");
}

TEST_F(FeedForward, RefusesToBeBuiltWithoutNeurons) {
  EXPECT_THROW(DenseFeedForward(DenseFeedForwardOptions{.width = 4}), Error);
  EXPECT_THROW(GatedFeedForward(GatedFeedForwardOptions{.width = 4, .neurons = -1}), Error);
}

TEST_F(FeedForward, WithoutBiasThereAreOnlyRows) {
  const DenseFeedForward bare(
      DenseFeedForwardOptions{.width = kWidth, .neurons = kNeurons, .bias = false});
  EXPECT_EQ(bare->named_parameters().keys(), (std::vector<std::string>{"key", "value"}));
  EXPECT_EQ(bare->forward(torch::zeros({1, kWidth})).abs().sum().item<float>(), 0);
}

}  // namespace
}  // namespace cajal
