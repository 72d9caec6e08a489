#pragma once
#include "cajal/core/torch.h"

/// Pictures as numbers: resizing, brightness and how alike two of them are. Pictures are
/// [..., channels, height, width] or [..., height, width] with values in [0, 1].
namespace cajal::math {

/// Resizes the last two axes by cubic convolution (a = -0.5, Keys 1981). When it shrinks, the
/// kernel is widened by the factor (antialiasing); edges are mirrored; pixel centres are aligned.
/// Equal to the usual degradation of super-resolution papers up to rounding. Throws Error unless
/// both sizes are positive.
torch::Tensor resize_bicubic(const torch::Tensor& x, int64_t height, int64_t width);

/// Rounds to the 256 levels of 8-bit pictures.
torch::Tensor round_to_8_bits(const torch::Tensor& x);

/// Luma of RGB pictures [..., 3, height, width], ITU-R BT.601 in its studio range (16 to 235 of
/// 255): [..., height, width]. One channel is taken as luma already.
torch::Tensor luma(const torch::Tensor& rgb);

/// Peak signal-to-noise ratio in dB for a peak of 1, over all elements.
double psnr(const torch::Tensor& a, const torch::Tensor& b);

/// Structural similarity, mean over an 11 x 11 Gaussian window (sigma 1.5) that fits inside; a, b
/// [height, width] with a peak of 1. Source: Wang et al. 2004, "Image quality assessment".
double ssim(const torch::Tensor& a, const torch::Tensor& b);

/// A Gaussian of deviation sigma on a (2 radius + 1)² grid that sums to 1, double.
torch::Tensor gaussian_kernel(double sigma, int64_t radius);

}  // namespace cajal::math
