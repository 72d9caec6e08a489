#include "cajal/math/ranks.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "cajal/core/error.h"

namespace cajal::math {
namespace {

struct Moments {
  double mean_x, mean_y, xx = 0, yy = 0, xy = 0;  // sums about the means
};

Moments moments(std::span<const double> x, std::span<const double> y) {
  require(x.size() == y.size() && !x.empty(), "samples of {} and {} values, expected equally many",
          x.size(), y.size());
  const auto n = static_cast<double>(x.size());
  Moments m{std::reduce(x.begin(), x.end()) / n, std::reduce(y.begin(), y.end()) / n};
  for (size_t i = 0; i < x.size(); ++i) {
    const double a = x[i] - m.mean_x, b = y[i] - m.mean_y;
    m.xx += a * a, m.yy += b * b, m.xy += a * b;
  }
  return m;
}

}  // namespace

std::vector<double> ranks(std::span<const double> values) {
  std::vector<size_t> order(values.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return values[a] < values[b]; });
  std::vector<double> out(values.size());
  for (size_t begin = 0; begin < order.size();) {
    size_t end = begin + 1;
    while (end < order.size() && values[order[end]] == values[order[begin]]) ++end;
    const double rank = (static_cast<double>(begin) + static_cast<double>(end - 1)) / 2;
    for (; begin < end; ++begin) out[order[begin]] = rank;
  }
  return out;
}

double pearson(std::span<const double> x, std::span<const double> y) {
  const auto m = moments(x, y);
  return m.xy / std::sqrt(m.xx * m.yy);
}

double spearman(std::span<const double> x, std::span<const double> y) {
  return pearson(ranks(x), ranks(y));
}

Line fit_line(std::span<const double> x, std::span<const double> y) {
  const auto m = moments(x, y);
  const double slope = m.xy / m.xx;
  return {slope, m.mean_y - slope * m.mean_x};
}

}  // namespace cajal::math
