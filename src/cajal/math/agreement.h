#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

/// How well two raters who put the same items into classes agree.
namespace cajal::math {

/// [classes][classes] how often the first rater said row and the second column.
/// Throws Error for lists of other lengths and classes out of range.
std::vector<std::vector<int64_t>> confusion(std::span<const int> truth, std::span<const int> said,
                                            int classes);

/// Share of items on which both say the same.
double accuracy(std::span<const int> truth, std::span<const int> said);

/// Mean over the classes of 2 precision recall / (precision + recall), 0 for a class that neither
/// is ever said nor true.
double macro_f1(std::span<const int> truth, std::span<const int> said, int classes);

/// Cohen's kappa (p_o - p_e) / (1 - p_e): agreement beyond what the class frequencies alone give.
/// 1 where both always say the same one class.
double kappa(std::span<const int> truth, std::span<const int> said, int classes);

struct Interval {
  double low = 0, high = 0;
  bool overlaps(const Interval& other) const { return low <= other.high && other.low <= high; }
};

/// The percentile bootstrap interval of a statistic over items: `resamples` times, as many items
/// are drawn with replacement and `statistic` is asked about those indices. Quantiles are
/// interpolated between the sorted values, at (1 -+ level) / 2 of the way.
Interval bootstrap(int64_t items,
                   const std::function<double(std::span<const int64_t> drawn)>& statistic,
                   int resamples, double level, uint64_t seed);

/// The value a share `at` of the way through the sorted values, linear between neighbours.
double quantile(std::vector<double> values, double at);

/// mean +- t s / sqrt(n) of a few independent values at 95 %, t of Student's distribution; a point
/// for fewer than two.
Interval mean_interval(std::span<const double> values);

}  // namespace cajal::math
