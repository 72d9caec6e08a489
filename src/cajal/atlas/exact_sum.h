#pragma once
#include <cmath>
#include <cstdint>

#include "cajal/core/error.h"

namespace cajal::atlas {

/// A sum of doubles in 128-bit fixed point (64 bits behind the point), so that it comes out the
/// same bit for bit in whatever order and in however many parts it was added up.
class ExactSum {
 public:
  ExactSum() = default;
  ExactSum(int64_t high, uint64_t low) : value_((static_cast<__int128>(high) << 64) | low) {}

  /// Throws Error when x is not finite or the sum leaves the range of +-2^63.
  void add(double x) {
    require(std::isfinite(x) && std::fabs(x) < 0x1p62, "a sum over activations is not finite");
    add(static_cast<__int128>(std::ldexp(x, 64)));
  }
  void add(const ExactSum& other) { add(other.value_); }

  double value() const { return std::ldexp(static_cast<double>(value_), -64); }
  int64_t high() const { return static_cast<int64_t>(value_ >> 64); }
  uint64_t low() const { return static_cast<uint64_t>(value_); }
  bool operator==(const ExactSum&) const = default;

 private:
  void add(__int128 x) {
    require(!__builtin_add_overflow(value_, x, &value_), "a sum over activations is too large");
  }

  __int128 value_ = 0;
};

}  // namespace cajal::atlas
