#pragma once
#include <string>
#include <vector>

#include "cajal/study/plot.h"

namespace cajal::plot {

/// What an axis spans, and where a value lies on it.
struct Range {
  double low = 0, high = 1;
  bool logarithmic = false;

  bool shows(double value) const;       // finite, and positive on a logarithmic axis
  double position(double value) const;  // 0 at low, 1 at high
};

/// The range of an axis over `values`: its own limits where set, else the data's, rounded outwards
/// to ticks; `from_zero` makes a linear axis hold 0.
Range range_of(const Axis& axis, const std::vector<double>& values, bool from_zero = false);

struct Tick {
  double value;
  std::string text;
};

/// About `count` round values inside the range.
std::vector<Tick> ticks(const Range& range, int count);

/// "20k", "0.05", "3×10⁻⁵".
std::string tick_text(double value);

}  // namespace cajal::plot
