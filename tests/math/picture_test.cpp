#include "cajal/math/picture.h"

#include <gtest/gtest.h>

#include <cmath>

#include "cajal/core/error.h"

namespace cajal::math {
namespace {

TEST(ResizeBicubic, KeepsConstantsAndSizes) {
  const auto x = torch::full({2, 3, 12, 10}, 0.3);
  for (const auto& [height, width] : {std::pair<int64_t, int64_t>{6, 5}, {24, 20}, {7, 31}}) {
    const auto y = resize_bicubic(x, height, width);
    EXPECT_EQ(y.sizes(), torch::IntArrayRef({2, 3, height, width}));
    EXPECT_LT((y - 0.3).abs().max().item<double>(), 1e-6);
  }
}

TEST(ResizeBicubic, OfTheSameSizeIsTheIdentity) {
  const auto x = torch::rand({5, 7}, torch::kDouble);
  EXPECT_TRUE(torch::allclose(resize_bicubic(x, 5, 7), x));
}

TEST(ResizeBicubic, EnlargesALineToTheSameLineInside) {
  const auto x = torch::arange(12, torch::kDouble).reshape({1, 12}).expand({4, 12});
  const auto y = resize_bicubic(x, 4, 24)[0];
  for (int64_t i = 6; i < 18; ++i)
    EXPECT_NEAR(y[i].item<double>(), (static_cast<double>(i) + 0.5) / 2 - 0.5, 1e-9);
}

// Weights of the kernel widened by two, from its formula: the half-way samples of cubic(x / 2) / 2.
TEST(ResizeBicubic, ShrinksWithTheWidenedKernel) {
  auto x = torch::zeros({1, 32}, torch::kDouble);
  x[0][16] = 1;
  const auto y = resize_bicubic(x, 1, 16)[0];
  EXPECT_NEAR(y[8].item<double>(), 0.43359375, 1e-9);  // cubic(0.25) / 2
  EXPECT_NEAR(y[7].item<double>(), 0.11328125, 1e-9);  // cubic(0.75) / 2
}

TEST(Psnr, OfAKnownErrorIsItsDecibel) {
  const auto x = torch::zeros({4, 4});
  EXPECT_NEAR(psnr(x, x + 0.1), 20, 1e-5);
  EXPECT_THROW(psnr(x, torch::zeros({3, 4})), Error);
}

TEST(Ssim, IsOneForTheSamePictureAndFallsWithNoise) {
  torch::manual_seed(1);
  const auto x = torch::rand({20, 20});
  EXPECT_NEAR(ssim(x, x), 1, 1e-9);
  const double little = ssim(x, x + 0.05 * torch::randn({20, 20}));
  EXPECT_GT(little, ssim(x, x + 0.3 * torch::randn({20, 20})));
  EXPECT_NEAR(ssim(x, 1 - x), -ssim(x, x), 0.2);  // turned around, structure has the other sign
  EXPECT_THROW(ssim(torch::rand({5, 20}), torch::rand({5, 20})), Error);
}

// Constant pictures: only the luminance term is left.
TEST(Ssim, OfConstantsIsTheLuminanceTerm) {
  const auto a = torch::full({16, 16}, 0.2), b = torch::full({16, 16}, 0.6);
  EXPECT_NEAR(ssim(a, b), (2 * 0.2 * 0.6 + 1e-4) / (0.04 + 0.36 + 1e-4), 1e-6);
}

TEST(Luma, OfGreyRunsFrom16To235) {
  EXPECT_NEAR(luma(torch::zeros({3, 1, 1})).item<double>(), 16.0 / 255, 1e-6);
  EXPECT_NEAR(luma(torch::ones({3, 1, 1})).item<double>(), 235.0 / 255, 1e-6);
  EXPECT_THROW(luma(torch::zeros({2, 4, 4})), Error);
}

TEST(GaussianKernel, SumsToOneAndFallsAsItShould) {
  const auto k = gaussian_kernel(2, 6);
  EXPECT_NEAR(k.sum().item<double>(), 1, 1e-12);
  EXPECT_NEAR((k[6][8] / k[6][6]).item<double>(), std::exp(-0.5), 1e-12);
}

}  // namespace
}  // namespace cajal::math
