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

std::vector<double> mean_ranks(const std::vector<std::vector<double>>& values,
                               const std::vector<bool>& higher) {
  for (const auto& own : values)
    require(own.size() == higher.size(), "mean ranks: a method has {} values, expected {}",
            own.size(), higher.size());
  std::vector<double> out(values.size());
  for (size_t block = 0; block < higher.size(); ++block) {
    std::vector<double> column;
    for (const auto& own : values) column.push_back(higher[block] ? -own[block] : own[block]);
    const auto place = ranks(column);
    for (size_t m = 0; m < values.size(); ++m)
      out[m] += (place[m] + 1) / static_cast<double>(higher.size());
  }
  return out;
}

double critical_rank_difference(int methods, int blocks) {
  // Studentised range at 5 % over √2, for 2 and more methods.
  constexpr double kQ[] = {1.960, 2.343, 2.569, 2.728, 2.850, 2.949, 3.031, 3.102, 3.164, 3.219,
                           3.268, 3.313, 3.354, 3.391, 3.426, 3.458, 3.489, 3.517, 3.544};
  require(methods >= 2 && methods <= 20 && blocks > 0,
          "critical rank difference: {} methods over {} blocks, expected 2 to 20 over one or more",
          methods, blocks);
  return kQ[methods - 2] * std::sqrt(methods * (methods + 1.0) / (6.0 * blocks));
}

double pearson(std::span<const double> x, std::span<const double> y) {
  const auto m = moments(x, y);
  return m.xy / std::sqrt(m.xx * m.yy);
}

double spearman(std::span<const double> x, std::span<const double> y) {
  return pearson(ranks(x), ranks(y));
}

double mann_whitney(std::span<const double> x, std::span<const double> y) {
  require(!x.empty() && !y.empty(), "Mann-Whitney test: samples of {} and {} values", x.size(),
          y.size());
  std::vector<double> all(x.begin(), x.end());
  all.insert(all.end(), y.begin(), y.end());
  const auto place = ranks(all);
  const auto n = static_cast<double>(x.size()), m = static_cast<double>(y.size());
  double u = -n * (n - 1) / 2;
  for (size_t i = 0; i < x.size(); ++i) u += place[i];
  return 0.5 * std::erfc((u - n * m / 2) / std::sqrt(n * m * (n + m + 1) / 6));
}

Line fit_line(std::span<const double> x, std::span<const double> y) {
  const auto m = moments(x, y);
  const double slope = m.xy / m.xx;
  return {slope, m.mean_y - slope * m.mean_x};
}

}  // namespace cajal::math
