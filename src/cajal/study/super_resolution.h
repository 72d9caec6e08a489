#pragma once
#include <string>
#include <vector>

#include "cajal/core/random.h"
#include "cajal/core/torch.h"

/// Photos for super-resolution: degraded, cut into patches, judged and shown side by side. Pictures
/// are luma [height, width], 0 to 1. Source: dossier paon.
namespace cajal::study {

/// Luma of a photo of the data set "photos", cut to sizes that 4 divides.
torch::Tensor luma_photo(const std::string& name);

/// Shrunk by cubic convolution with antialiasing, rounded to 8 bits.
torch::Tensor degraded(const torch::Tensor& picture, int64_t scale);

struct PatchPairs {
  torch::Tensor low, high;  // [count, 1, side, side] and [count, 1, scale side, scale side], - 0.5
};
/// Patches of `side` pixels of the degraded photos from random places, and what they come from.
PatchPairs patch_pairs(const std::vector<torch::Tensor>& photos, int64_t count, int64_t side,
                       int64_t scale, Random random);

struct PictureQuality {
  double psnr = 0, ssim = 0;
};
/// Of a picture rounded to 8 bits, without `scale` pixels at its edges.
PictureQuality quality(const torch::Tensor& picture, const torch::Tensor& truth, int64_t scale);

/// About the middle of a picture, [80, 100] of one large enough.
torch::Tensor middle(const torch::Tensor& picture);

/// The same, line by line.
std::vector<double> middle_pixels(const torch::Tensor& picture);

}  // namespace cajal::study
