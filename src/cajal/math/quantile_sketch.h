#pragma once
#include <cstdint>
#include <span>
#include <vector>

namespace cajal::math {

/// Quantiles of a stream in bounded memory: a histogram whose range doubles (bins merge in pairs)
/// when a value falls outside it. The rank of an answer is off by at most the share of values in
/// one bin. With `exact`, all values are kept and sorted instead.
class QuantileSketch {
 public:
  /// Throws Error unless bins is even and at least 2.
  explicit QuantileSketch(int64_t bins = 4096, bool exact = false);

  /// Adds values; throws Error for one that is not finite.
  void add(std::span<const float> values);

  /// The value with a share q of the stream below it, linear within a bin (exact: between the two
  /// nearest values). Throws Error when nothing was added or q is outside [0, 1].
  double quantile(double q) const;

  int64_t count() const { return count_; }

 private:
  void cover(float low, float high);

  int64_t bins_, count_ = 0;
  bool exact_;
  double low_ = 0, width_ = 0;  // of the first bin
  float least_ = 0, most_ = 0;
  /// Values of a bin; the least of them and how often it occurs, so that a value that many share
  /// (the zeros of ReLU) keeps its rank.
  struct Bin {
    int64_t count = 0, equal = 0;
    float least = 0;
  };
  std::vector<Bin> counts_;
  std::vector<float> values_;
};

}  // namespace cajal::math
