#include "cajal/math/calibration.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "cajal/core/error.h"

namespace cajal::math {

double calibration_error(std::span<const float> confidence, std::span<const float> right,
                         int bins) {
  require(confidence.size() == right.size() && !confidence.empty() && bins > 0,
          "calibration: {} confidences, {} answers, {} bins", confidence.size(), right.size(),
          bins);
  std::vector<double> gap(static_cast<size_t>(bins));
  for (size_t i = 0; i < confidence.size(); ++i) {
    const auto bin =
        std::clamp(static_cast<int>(confidence[i] * static_cast<float>(bins)), 0, bins - 1);
    gap[static_cast<size_t>(bin)] += confidence[i] - right[i];
  }
  double sum = 0;
  for (const double g : gap) sum += std::fabs(g);
  return sum / static_cast<double>(confidence.size());
}

double sign_test(int64_t successes, int64_t trials) {
  require(trials > 0 && successes >= 0 && successes <= trials, "sign test: {} of {}", successes,
          trials);
  const auto many = std::max(successes, trials - successes);
  const auto n = static_cast<double>(trials);
  double p = 0;
  for (int64_t k = 0; k <= trials; ++k) {
    if (k < many && k > trials - many) continue;
    const auto x = static_cast<double>(k);
    p += std::exp(std::lgamma(n + 1) - std::lgamma(x + 1) - std::lgamma(n - x + 1) -
                  n * std::log(2.0));
  }
  return std::min(1.0, p);
}

}  // namespace cajal::math
