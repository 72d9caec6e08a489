#include "cajal/study/super_resolution.h"

#include <algorithm>

#include "cajal/data/image.h"
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

void write_crops(const std::filesystem::path& path, const std::vector<std::vector<Tensor>>& rows) {
  std::vector<Tensor> lines;
  for (const auto& row : rows) {
    std::vector<Tensor> cells;
    for (const auto& picture : row) {
      cells.push_back(picture.repeat_interleave(3, 0).repeat_interleave(3, 1));
      cells.push_back(torch::ones({cells[0].size(0), 6}));
    }
    lines.push_back(torch::cat(cells, 1));
    lines.push_back(torch::ones({6, lines[0].size(1)}));
  }
  const auto all = (torch::cat(lines, 0).clamp(0, 1) * 255).round().to(torch::kLong).contiguous();
  data::Image image{.width = all.size(1), .height = all.size(0), .channels = 1, .samples = {}};
  image.samples.assign(all.data_ptr<int64_t>(), all.data_ptr<int64_t>() + all.numel());
  std::filesystem::create_directories(path.parent_path());
  data::write_png(path, image);
}

}  // namespace cajal::study
