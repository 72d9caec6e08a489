#include "cajal/math/agreement.h"

#include <algorithm>
#include <cmath>

#include "cajal/core/error.h"
#include "cajal/core/random.h"

namespace cajal::math {

std::vector<std::vector<int64_t>> confusion(std::span<const int> truth, std::span<const int> said,
                                            int classes) {
  require(truth.size() == said.size(), "agreement: {} labels and {} answers", truth.size(),
          said.size());
  std::vector<std::vector<int64_t>> out(static_cast<size_t>(classes),
                                        std::vector<int64_t>(static_cast<size_t>(classes)));
  for (size_t i = 0; i < truth.size(); ++i) {
    require(truth[i] >= 0 && truth[i] < classes && said[i] >= 0 && said[i] < classes,
            "agreement: item {} is in classes {} and {} of {}", i, truth[i], said[i], classes);
    ++out[static_cast<size_t>(truth[i])][static_cast<size_t>(said[i])];
  }
  return out;
}

double accuracy(std::span<const int> truth, std::span<const int> said) {
  require(truth.size() == said.size() && !truth.empty(),
          "agreement: {} labels and {} answers, expected as many and at least one", truth.size(),
          said.size());
  int64_t right = 0;
  for (size_t i = 0; i < truth.size(); ++i) right += truth[i] == said[i];
  return static_cast<double>(right) / static_cast<double>(truth.size());
}

double macro_f1(std::span<const int> truth, std::span<const int> said, int classes) {
  const auto table = confusion(truth, said, classes);
  double sum = 0;
  for (size_t c = 0; c < table.size(); ++c) {
    int64_t rows = 0, columns = 0;
    for (size_t k = 0; k < table.size(); ++k) rows += table[c][k], columns += table[k][c];
    if (rows + columns > 0)
      sum += 2.0 * static_cast<double>(table[c][c]) / static_cast<double>(rows + columns);
  }
  return sum / classes;
}

double kappa(std::span<const int> truth, std::span<const int> said, int classes) {
  const auto table = confusion(truth, said, classes);
  const auto n = static_cast<double>(truth.size());
  double agreed = 0, expected = 0;
  for (size_t c = 0; c < table.size(); ++c) {
    double row = 0, column = 0;
    for (size_t k = 0; k < table.size(); ++k)
      row += static_cast<double>(table[c][k]), column += static_cast<double>(table[k][c]);
    agreed += static_cast<double>(table[c][c]) / n;
    expected += row / n * column / n;
  }
  return expected < 1 ? (agreed - expected) / (1 - expected) : 1;
}

double quantile(std::vector<double> values, double at) {
  require(!values.empty() && at >= 0 && at <= 1, "quantile {} of {} values", at, values.size());
  std::sort(values.begin(), values.end());
  const double place = at * static_cast<double>(values.size() - 1);
  const auto below = static_cast<size_t>(place);
  const auto above = std::min(below + 1, values.size() - 1);
  return values[below] + (place - static_cast<double>(below)) * (values[above] - values[below]);
}

Interval bootstrap(int64_t items, const std::function<double(std::span<const int64_t>)>& statistic,
                   int resamples, double level, uint64_t seed) {
  require(items > 0 && resamples > 0 && level > 0 && level < 1,
          "bootstrap: {} items, {} resamples, level {}", items, resamples, level);
  Random random(seed, 5);
  std::vector<int64_t> drawn(static_cast<size_t>(items));
  std::vector<double> values;
  for (int r = 0; r < resamples; ++r) {
    for (auto& i : drawn) i = static_cast<int64_t>(random.below(static_cast<uint64_t>(items)));
    values.push_back(statistic(drawn));
  }
  return {quantile(values, (1 - level) / 2), quantile(values, (1 + level) / 2)};
}

Interval mean_interval(std::span<const double> values) {
  require(!values.empty(), "the mean of no values");
  const auto n = static_cast<double>(values.size());
  double mean = 0, square = 0;
  for (const double x : values) mean += x / n;
  if (values.size() < 2) return {mean, mean};
  for (const double x : values) square += (x - mean) * (x - mean);
  // Student's t at 97.5 % by degrees of freedom; beyond, its expansion about the normal quantile.
  constexpr double t[] = {12.706204736174676, 4.302652729749459, 3.1824463052837064,
                          2.7764451051977934, 2.570581835636313, 2.446911851144968,
                          2.364624251592783,  2.306004135204166, 2.2621571627982053,
                          2.228138851986274,  2.200985160091639, 2.1788128296672262,
                          2.160368656462789,  2.1447866879178035};
  const auto freedom = values.size() - 1;
  const double z = 1.959964;
  const double factor = freedom <= std::size(t)
                            ? t[freedom - 1]
                            : z + (z * z * z + z) / (4 * static_cast<double>(freedom));
  const double half = factor * std::sqrt(square / (n - 1) / n);
  return {mean - half, mean + half};
}

}  // namespace cajal::math
