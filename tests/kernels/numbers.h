#pragma once
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <vector>

#include "cajal/core/random.h"
#include "cajal/kernels/formats/format.h"
#include "cajal/kernels/simd_targets.h"

namespace cajal {

inline std::vector<float> normals(int64_t count, uint64_t seed) {
  Random random(seed);
  std::vector<float> out(count);
  for (auto& value : out) value = static_cast<float>(random.normal());
  return out;
}

inline float largest(const std::vector<float>& values) {
  float out = 0;
  for (const float value : values) out = std::max(out, std::fabs(value));
  return out;
}

/// Largest difference over the largest expected value.
inline float relative_error(const std::vector<float>& got, const std::vector<float>& expected) {
  float worst = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    const float difference = std::fabs(got[i] - expected[i]);
    worst = difference <= worst ? worst : difference;  // a NaN stays
  }
  return worst / largest(expected);
}

/// Runs `check` once with every instruction set that this machine and build have.
inline void on_every_target(const std::function<void()>& check) {
  for (const int64_t target : hwy::SupportedAndGeneratedTargets()) {
    SCOPED_TRACE(hwy::TargetName(target));
    hwy::SetSupportedTargetsForTest(target);
    check();
  }
  hwy::SetSupportedTargetsForTest(0);
}

inline const auto kEveryFormat = testing::Values(
    Format::f32, Format::f16, Format::bf16, Format::q8_0, Format::q4_0, Format::q4_1, Format::q5_0,
    Format::q5_1, Format::q4_K, Format::q5_K, Format::q6_K);

}  // namespace cajal
