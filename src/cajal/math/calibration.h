#pragma once
#include <cstdint>
#include <span>

namespace cajal::math {

/// Expected calibration error: confidences are put into equal bins of [0, 1]; the mean over items
/// of |mean confidence - share right| of their bin. Source: Naeini et al. 2015.
/// Throws Error for lists of other lengths and for none.
double calibration_error(std::span<const float> confidence, std::span<const float> right,
                         int bins = 15);

/// Two-sided p of `successes` of `trials` fair coins: the chance of a split at least so uneven.
double sign_test(int64_t successes, int64_t trials);

}  // namespace cajal::math
