#pragma once
#include <span>
#include <vector>

/// Correlation of two samples, by value and by rank, and the straight line through them.
namespace cajal::math {

/// Ranks from 0; equal values share the mean of theirs.
std::vector<double> ranks(std::span<const double> values);

/// Mean rank of each method over the blocks, 1 for the best; values[method][block], `higher[block]`
/// says which way is better there; of equal values half the place. Throws Error for methods with
/// other numbers of blocks.
std::vector<double> mean_ranks(const std::vector<std::vector<double>>& values,
                               const std::vector<bool>& higher);

/// How far two mean ranks of `methods` (18) must lie apart over that many blocks to differ at the
/// 5 % level, by Nemenyi's test. Source: Demšar 2006, Statistical comparisons of classifiers.
double critical_rank_difference(int methods, int blocks);

/// Pearson's correlation; NaN where a side is constant. Throws Error for samples of other lengths.
double pearson(std::span<const double> x, std::span<const double> y);

/// Spearman's rank correlation: Pearson's of the ranks.
double spearman(std::span<const double> x, std::span<const double> y);

/// One-sided p of the Mann-Whitney test that values of x are larger than those of y, by the normal
/// approximation. Throws Error when a sample is empty.
double mann_whitney(std::span<const double> x, std::span<const double> y);

/// Least squares y = intercept + slope x.
struct Line {
  double slope = 0, intercept = 0;
};
Line fit_line(std::span<const double> x, std::span<const double> y);

}  // namespace cajal::math
