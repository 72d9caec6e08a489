#pragma once
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <vector>

#include "cajal/core/random.h"
#include "cajal/kernels/simd_targets.h"

namespace cajal {

/// Runs `check` once with every instruction set that this machine and build have.
inline void on_every_target(const std::function<void()>& check) {
  for (const int64_t target : hwy::SupportedAndGeneratedTargets()) {
    SCOPED_TRACE(hwy::TargetName(target));
    hwy::SetSupportedTargetsForTest(target);
    check();
  }
  hwy::SetSupportedTargetsForTest(0);
}

inline std::vector<float> normals(int64_t count, uint64_t seed) {
  Random random(seed);
  std::vector<float> out(count);
  for (auto& value : out) value = static_cast<float>(random.normal());
  return out;
}

/// Largest difference over the largest expected value.
inline double relative_error(const std::vector<float>& got, const std::vector<float>& expected) {
  double worst = 0, largest = 1e-30;
  for (size_t i = 0; i < expected.size(); ++i) {
    const double difference = std::fabs(double{got[i]} - expected[i]);
    worst = difference <= worst ? worst : difference;  // a NaN stays
    largest = std::max(largest, std::fabs(double{expected[i]}));
  }
  return worst / largest;
}

}  // namespace cajal
