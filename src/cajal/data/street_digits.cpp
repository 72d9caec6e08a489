#include "cajal/data/street_digits.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "cajal/core/error.h"
#include "cajal/core/random.h"

namespace cajal::data {
namespace {

constexpr int64_t kDigit = 28, kSize = 32;
using Rgb = std::array<double, 3>;

double luminance(const Rgb& c) { return 0.299 * c[0] + 0.587 * c[1] + 0.114 * c[2]; }

/// A colour of that hue (0 to 1) moved to that luminance, within [0, 1].
Rgb coloured(double hue, double light) {
  Rgb c;
  for (int i = 0; i < 3; ++i) c[i] = 0.5 + 0.3 * std::cos(2 * M_PI * (hue - i / 3.0));
  const double shift = light - luminance(c);
  for (auto& value : c) value = std::clamp(value + shift, 0.0, 1.0);
  return c;
}

}  // namespace

LabelledImages street_digits(const LabelledImages& digits, int64_t count, uint64_t seed) {
  const auto& shape = digits.images.shape;
  require(shape.size() == 3 && shape[1] == kDigit && shape[2] == kDigit && shape[0] > 0,
          "street_digits: expected pictures of 28 x 28");
  require(count > 0 && count <= 1'000'000, "street_digits: {} pictures, expected 1 to 1000000",
          count);
  const auto source = digits.images.values<uint8_t>();
  Random random(seed, 77);
  LabelledImages out;
  out.images.shape = {count, 3, kSize, kSize};
  out.images.bytes.resize(static_cast<size_t>(count * 3 * kSize * kSize));
  auto* pixels = reinterpret_cast<uint8_t*>(out.images.bytes.data());
  for (int64_t n = 0; n < count; ++n) {
    const auto pick = static_cast<int64_t>(random.below(static_cast<uint64_t>(shape[0])));
    out.labels.push_back(digits.labels[static_cast<size_t>(pick)]);
    std::array<double, kSize * kSize> ink{};
    const auto draw = [&](int64_t which, int64_t left, int64_t top) {
      for (int64_t y = 0; y < kDigit; ++y)
        for (int64_t x = 0; x < kDigit; ++x) {
          const int64_t row = y + top, column = x + left;
          if (row < 0 || row >= kSize || column < 0 || column >= kSize) continue;
          auto& at = ink[static_cast<size_t>(row * kSize + column)];
          at = std::max(at, source[static_cast<size_t>((which * kDigit + y) * kDigit + x)] / 255.0);
        }
    };
    const auto between = [&](int64_t low, int64_t high) {
      return low + static_cast<int64_t>(random.below(static_cast<uint64_t>(high - low + 1)));
    };
    draw(pick, between(1, 3), between(1, 3));
    for (const int64_t left : {between(-24, -20), between(24, 28)})
      draw(static_cast<int64_t>(random.below(static_cast<uint64_t>(shape[0]))), left,
           between(0, 4));
    const double contrast = 0.2 + 0.6 * random.uniform(), hue = random.uniform();
    const double dark = 0.1 + (0.8 - contrast) * random.uniform();
    const bool bright_ink = random.uniform() < 0.5;
    const auto ground = coloured(hue, bright_ink ? dark : dark + contrast);
    const auto colour =
        coloured(hue + 0.25 + 0.5 * random.uniform(), bright_ink ? dark + contrast : dark);
    const double slope = 0.2 * (2 * random.uniform() - 1);
    for (int64_t c = 0; c < 3; ++c)
      for (int64_t i = 0; i < kSize * kSize; ++i) {
        const double mix = ink[static_cast<size_t>(i)];
        const double light = 1 + slope * (2.0 * static_cast<double>(i % kSize) / (kSize - 1) - 1);
        const double value = ((1 - mix) * ground[c] + mix * colour[c]) * light;
        pixels[(n * 3 + c) * kSize * kSize + i] =
            static_cast<uint8_t>(std::lround(255 * std::clamp(value, 0.0, 1.0)));
      }
  }
  return out;
}

}  // namespace cajal::data
