#include "cajal/data/patches.h"

#include "cajal/core/error.h"
#include "cajal/core/random.h"

namespace cajal::data {

LabelledImages texture_patches(const std::vector<Image>& pictures, int64_t count, uint64_t seed,
                               const PatchOptions& o) {
  require(!pictures.empty() && pictures.size() <= 256 && count > 0,
          "texture patches: {} pictures, {} patches", pictures.size(), count);
  require(o.size > 0 && o.from >= 0 && o.from < o.to && o.to <= 1,
          "texture patches: size {}, from {} to {}: expected a positive size, 0 <= from < to <= 1",
          o.size, o.from, o.to);
  LabelledImages out;
  out.images.shape = {count, o.size, o.size};
  out.images.bytes.reserve(static_cast<size_t>(count * o.size * o.size));
  Random random(seed, 17);
  for (int64_t i = 0; i < count; ++i) {
    const auto kind = static_cast<size_t>(i) % pictures.size();
    const auto& picture = pictures[kind];
    require(picture.channels == 1 && picture.maximum == 255,
            "texture patches: picture {} has {} channels and values to {}, expected 1 and 255",
            kind, picture.channels, picture.maximum);
    const auto left = static_cast<int64_t>(o.from * static_cast<double>(picture.width)),
               right = static_cast<int64_t>(o.to * static_cast<double>(picture.width));
    require(right - left >= o.size && picture.height >= o.size,
            "texture patches: picture {} has {} x {} pixels to cut from, a patch {} x {}", kind,
            picture.height, right - left, o.size, o.size);
    const auto place = [&](int64_t room) {
      return static_cast<int64_t>(random.below(static_cast<uint64_t>(room + 1)));
    };
    const auto row = place(picture.height - o.size), column = left + place(right - left - o.size);
    for (int64_t y = row; y < row + o.size; ++y)
      for (int64_t x = column; x < column + o.size; ++x)
        out.images.bytes.push_back(
            static_cast<std::byte>(picture.samples[static_cast<size_t>(y * picture.width + x)]));
    out.labels.push_back(static_cast<uint8_t>(kind));
  }
  return out;
}

}  // namespace cajal::data
