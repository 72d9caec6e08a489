#include "cajal/study/super_resolution.h"

#include <algorithm>

#include "cajal/math/picture.h"
#include "cajal/study/images.h"

namespace cajal::study {

using torch::Tensor;

Tensor luma_photo(const std::string& name) {
  const auto all = photo(name);
  return math::luma(all)
      .slice(0, 0, all.size(1) / 4 * 4)
      .slice(1, 0, all.size(2) / 4 * 4)
      .contiguous();
}

Tensor degraded(const Tensor& picture, int64_t scale) {
  return math::round_to_8_bits(
      math::resize_bicubic(picture, picture.size(0) / scale, picture.size(1) / scale));
}

PatchPairs patch_pairs(const std::vector<Tensor>& photos, int64_t count, int64_t side,
                       int64_t scale, Random random) {
  std::vector<Tensor> low, high, small;
  for (const auto& picture : photos) small.push_back(degraded(picture, scale));
  for (int64_t i = 0; i < count; ++i) {
    const auto p = random.below(photos.size());
    const auto row =
        static_cast<int64_t>(random.below(static_cast<uint64_t>(small[p].size(0) - side)));
    const auto column =
        static_cast<int64_t>(random.below(static_cast<uint64_t>(small[p].size(1) - side)));
    const auto cut = [&](const Tensor& from, int64_t by) {
      return from.slice(0, row * by, (row + side) * by).slice(1, column * by, (column + side) * by);
    };
    low.push_back(cut(small[p], 1)), high.push_back(cut(photos[p], scale));
  }
  return {torch::stack(low).unsqueeze(1) - 0.5, torch::stack(high).unsqueeze(1) - 0.5};
}

PictureQuality quality(const Tensor& picture, const Tensor& truth, int64_t scale) {
  const auto inner = [&](const Tensor& x) {
    return x.slice(0, scale, -scale).slice(1, scale, -scale);
  };
  const auto a = inner(math::round_to_8_bits(picture)), b = inner(truth);
  return {math::psnr(a, b), math::ssim(a, b)};
}

Tensor middle(const Tensor& picture) {
  const auto row = std::max<int64_t>(picture.size(0) / 2 - 60, 0),
             column = std::max<int64_t>(picture.size(1) / 2 - 40, 0);
  return picture.slice(0, row, row + 80).slice(1, column, column + 100);
}

std::vector<double> middle_pixels(const Tensor& picture) {
  const auto pixels = middle(picture).to(torch::kDouble).contiguous();
  return {pixels.data_ptr<double>(), pixels.data_ptr<double>() + pixels.numel()};
}

}  // namespace cajal::study
