#include "cajal/layers/vision/depthwise.h"

#include <gtest/gtest.h>

#include "cajal/core/error.h"

namespace cajal {
namespace {

torch::Tensor by_groups(const torch::Tensor& x, const torch::Tensor& kernels) {
  const int64_t unpadded = 0;
  return torch::conv2d(x, kernels.unsqueeze(1), {}, 1, unpadded, 1, x.size(1));
}

struct Case {
  torch::Tensor x, kernels;
};
Case drawn() {
  torch::manual_seed(3);
  return {torch::randn({4, 3, 9, 11}, torch::kDouble).set_requires_grad(true),
          torch::randn({3, 5, 2}, torch::kDouble).set_requires_grad(true)};
}

TEST(DepthwiseConvolution, EqualsAConvolutionWithAGroupAChannel) {
  const auto [x, kernels] = drawn();
  const auto y = depthwise_convolution(x, kernels), expected = by_groups(x, kernels);
  ASSERT_EQ(y.sizes(), expected.sizes());
  EXPECT_LT((y - expected).abs().max().item<double>(), 1e-12);
}

TEST(DepthwiseConvolution, HasTheGradientsOfAConvolutionWithAGroupAChannel) {
  const auto [x, kernels] = drawn();
  const auto weights = torch::randn({4, 3, 5, 10}, torch::kDouble);
  const auto ours = torch::autograd::grad({(depthwise_convolution(x, kernels) * weights).sum()},
                                          {x, kernels}),
             expected =
                 torch::autograd::grad({(by_groups(x, kernels) * weights).sum()}, {x, kernels});
  for (size_t i = 0; i < 2; ++i)
    EXPECT_LT((ours[i] - expected[i]).abs().max().item<double>(), 1e-11) << i;
}

TEST(DepthwiseConvolution, RefusesAKernelLargerThanThePicture) {
  EXPECT_THROW(depthwise_convolution(torch::ones({1, 1, 4, 4}), torch::ones({1, 5, 1})), Error);
}

}  // namespace
}  // namespace cajal
