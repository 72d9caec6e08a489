#include "cajal/study/range.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace cajal::plot {
namespace {

/// The round step, 1, 2 or 5 times a power of ten, that cuts `span` into about `count` parts.
double round_step(double span, int count) {
  const double rough = span / std::max(count, 1);
  const double power = std::pow(10, std::floor(std::log10(rough)));
  for (const double factor : {1.0, 2.0, 5.0})
    if (factor * power >= rough * 0.999) return factor * power;
  return 10 * power;
}

std::string power_of_ten(int exponent) {
  static constexpr const char* kDigits[] = {"⁰", "¹", "²", "³", "⁴", "⁵", "⁶", "⁷", "⁸", "⁹"};
  std::string out = exponent < 0 ? "10⁻" : "10";
  for (const char digit : std::to_string(std::abs(exponent))) out += kDigits[digit - '0'];
  return out;
}

std::vector<Tick> logarithmic_ticks(const Range& range, int count) {
  const double decades = std::log10(range.high / range.low);
  const int stride = std::max(1, static_cast<int>(std::ceil(decades / std::max(count, 1))));
  std::vector<Tick> out;
  const int first = static_cast<int>(std::floor(std::log10(range.low)));
  const int last = static_cast<int>(std::ceil(std::log10(range.high)));
  for (int exponent = first; exponent <= last; ++exponent) {
    if ((exponent - first) % stride) continue;
    for (const double factor : {1.0, 2.0, 5.0}) {
      if (factor > 1 && decades > 2.5) continue;
      const double value = factor * std::pow(10, exponent);
      if (value >= range.low * 0.999 && value <= range.high * 1.001)
        out.push_back({value, tick_text(value)});
    }
  }
  return out;
}

}  // namespace

bool Range::shows(double value) const {
  return std::isfinite(value) && (!logarithmic || value > 0);
}

double Range::position(double value) const {
  return logarithmic ? std::log(value / low) / std::log(high / low) : (value - low) / (high - low);
}

Range range_of(const Axis& axis, const std::vector<double>& values, bool from_zero) {
  Range range{std::numeric_limits<double>::infinity(), -std::numeric_limits<double>::infinity(),
              axis.spacing == Spacing::logarithmic};
  for (const double value : values) {
    if (!range.shows(value) || std::abs(value) > 1e300) continue;
    range.low = std::min(range.low, value), range.high = std::max(range.high, value);
  }
  if (range.low > range.high)
    range.low = range.logarithmic ? 1 : 0, range.high = range.logarithmic ? 10 : 1;
  if (from_zero && !range.logarithmic) {
    range.low = std::min(range.low, 0.0), range.high = std::max(range.high, 0.0);
  }
  if (range.logarithmic) {
    if (range.high / range.low < 1.01) range.low /= 2, range.high *= 2;
  } else {
    if (range.high - range.low <= 1e-12 * std::max(std::abs(range.low), std::abs(range.high)) ||
        range.high == range.low) {
      const double margin = range.low == 0 ? 1 : std::abs(range.low) * 0.1;
      range.low -= from_zero ? 0 : margin, range.high += margin;
    }
    const double step = round_step(range.high - range.low, 5);
    range.low = step * std::floor(range.low / step + 1e-9);
    range.high = step * std::ceil(range.high / step - 1e-9);
  }
  const bool usable_low =
      axis.low && range.shows(*axis.low) && *axis.low < axis.high.value_or(range.high);
  if (usable_low) range.low = *axis.low;
  if (axis.high && range.shows(*axis.high) && *axis.high > range.low) range.high = *axis.high;
  return range;
}

std::vector<Tick> ticks(const Range& range, int count) {
  if (range.logarithmic) return logarithmic_ticks(range, count);
  const double step = round_step(range.high - range.low, count);
  std::vector<Tick> out;
  for (double i = std::ceil(range.low / step - 1e-9); i <= range.high / step + 1e-9; ++i) {
    const double value = std::abs(i) < 0.5 ? 0 : i * step;
    out.push_back({value, tick_text(value)});
    if (out.size() > 100) break;  // steps lost to rounding far from zero
  }
  return out;
}

std::string tick_text(double value) {
  const double size = std::abs(value);
  if (value == 0) return "0";
  if (size >= 1e15 || size < 1e-4) {
    const int exponent = static_cast<int>(std::floor(std::log10(size) + 1e-9));
    const auto factor = fmt::format("{:.3g}", value / std::pow(10, exponent));
    if (factor == "1") return power_of_ten(exponent);
    return (factor == "-1" ? "−" : factor + "×") + power_of_ten(exponent);
  }
  static constexpr std::pair<double, const char*> kSuffixes[] = {
      {1e12, "T"}, {1e9, "G"}, {1e6, "M"}, {1e4, "k"}};
  for (const auto& [limit, suffix] : kSuffixes)
    if (size >= limit * 0.9999999)
      return fmt::format("{:.4g}{}", value / (limit == 1e4 ? 1e3 : limit), suffix);
  return fmt::format("{:.5g}", value);
}

}  // namespace cajal::plot
