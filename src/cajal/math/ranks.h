#pragma once
#include <span>
#include <vector>

/// Correlation of two samples, by value and by rank, and the straight line through them.
namespace cajal::math {

/// Ranks from 0; equal values share the mean of theirs.
std::vector<double> ranks(std::span<const double> values);

/// Pearson's correlation; NaN where a side is constant. Throws Error for samples of other lengths.
double pearson(std::span<const double> x, std::span<const double> y);

/// Spearman's rank correlation: Pearson's of the ranks.
double spearman(std::span<const double> x, std::span<const double> y);

/// Least squares y = intercept + slope x.
struct Line {
  double slope = 0, intercept = 0;
};
Line fit_line(std::span<const double> x, std::span<const double> y);

}  // namespace cajal::math
