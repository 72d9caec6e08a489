#include "cajal/math/quantile_sketch.h"

#include <algorithm>
#include <cmath>

#include "cajal/core/error.h"

namespace cajal::math {

QuantileSketch::QuantileSketch(int64_t bins, bool exact) : bins_(bins), exact_(exact) {
  require(bins >= 2 && bins % 2 == 0 && bins <= (1 << 24),
          "quantile sketch: {} bins, expected an even number", bins);
  if (!exact) counts_.resize(static_cast<size_t>(bins));
}

void QuantileSketch::add(std::span<const float> values) {
  if (values.empty()) return;
  float low = values[0], high = values[0];
  for (const float v : values) {
    require(std::isfinite(v), "quantile sketch: a value is {}", v);
    low = std::min(low, v), high = std::max(high, v);
  }
  least_ = count_ ? std::min(least_, low) : low, most_ = count_ ? std::max(most_, high) : high;
  if (exact_) {
    values_.insert(values_.end(), values.begin(), values.end());
  } else {
    cover(low, high);
    const double scale = 1 / width_;
    for (const float v : values) {
      const auto bin = static_cast<int64_t>((static_cast<double>(v) - low_) * scale);
      auto& b = counts_[static_cast<size_t>(std::min(bin, bins_ - 1))];
      if (b.count++ == 0 || v < b.least)
        b.least = v, b.equal = 1;
      else if (v == b.least)
        ++b.equal;
    }
  }
  count_ += std::ssize(values);
}

void QuantileSketch::cover(float low, float high) {
  const auto bins = static_cast<double>(bins_);
  if (width_ == 0) {
    const double range = static_cast<double>(high) - low;
    const double tiny = std::max(std::abs(static_cast<double>(low)), 1e-30) * 1e-6;
    low_ = low, width_ = std::max(range * 1.001, tiny) / bins;
  }
  const auto half = static_cast<size_t>(bins_ / 2);
  while (low < low_ || high >= low_ + bins * width_) {
    const bool down = low < low_;
    std::vector<Bin> merged(counts_.size());
    for (size_t b = 0; b < half; ++b) {
      auto& both = merged[b + (down ? half : 0)];
      both = counts_[2 * b];
      const auto& upper = counts_[2 * b + 1];
      if (both.count == 0)
        both = upper;
      else
        both.count += upper.count;
    }
    counts_ = std::move(merged);
    if (down) low_ -= bins * width_;
    width_ *= 2;
  }
}

double QuantileSketch::quantile(double q) const {
  require(count_ > 0, "quantile sketch: no values");
  require(q >= 0 && q <= 1, "quantile sketch: quantile {}", q);
  if (exact_) {
    auto sorted = values_;
    std::sort(sorted.begin(), sorted.end());
    const double place = q * static_cast<double>(count_ - 1);
    const auto below = static_cast<size_t>(place);
    const auto above = std::min(below + 1, sorted.size() - 1);
    const double low = sorted[below], high = sorted[above];
    return low + (place - std::floor(place)) * (high - low);
  }
  const double wanted = q * static_cast<double>(count_);
  double before = 0;
  for (int64_t b = 0; b < bins_; ++b) {
    const auto& bin = counts_[static_cast<size_t>(b)];
    const auto here = static_cast<double>(bin.count), equal = static_cast<double>(bin.equal);
    if (here > 0 && before + here >= wanted) {
      if (wanted <= before + equal) return bin.least;
      const double above = low_ + width_ * static_cast<double>(b + 1);
      const double value =
          bin.least + (above - bin.least) * (wanted - before - equal) / (here - equal);
      return std::clamp<double>(value, least_, most_);
    }
    before += here;
  }
  return most_;
}

}  // namespace cajal::math
