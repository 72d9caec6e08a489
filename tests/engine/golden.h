#pragma once
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <vector>

#include "cajal/core/tensors.h"

namespace cajal::testing {

/// A folder of reference answers, or an empty path where there are none here.
inline std::filesystem::path golden(const char* name) {
  const char* root = std::getenv("CAJAL_GOLDEN");
  if (!root) return {};
  const auto path = std::filesystem::path(root) / name;
  return std::filesystem::exists(path) ? path : std::filesystem::path();
}

#define CAJAL_NEED_GOLDEN(path) \
  if ((path).empty()) GTEST_SKIP() << "CAJAL_GOLDEN does not hold what this test reads"

inline std::vector<float> floats(const StoredTensor& tensor) {
  std::vector<float> out(tensor.bytes.size() / 4);
  std::memcpy(out.data(), tensor.bytes.data(), tensor.bytes.size());
  return out;
}

/// The first row of ids [batch, tokens].
inline std::vector<int32_t> first_ids(const StoredTensor& tensor) {
  std::vector<int64_t> wide(tensor.bytes.size() / 8);
  std::memcpy(wide.data(), tensor.bytes.data(), tensor.bytes.size());
  return {wide.begin(), wide.begin() + tensor.shape[1]};
}

inline double largest_distance(const std::vector<float>& a, const std::vector<float>& b) {
  double most = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double distance = std::fabs(static_cast<double>(a[i]) - b.at(i));
    most = distance <= most ? most : distance;  // NaN counts as far
  }
  return most;
}

/// Root mean square of a - b over the standard deviation of b.
inline double relative_rms(const std::vector<float>& a, const std::vector<float>& b) {
  double mean = 0, square = 0, distance = 0;
  for (size_t i = 0; i < b.size(); ++i) {
    mean += b[i], square += static_cast<double>(b[i]) * b[i];
    distance += (static_cast<double>(a.at(i)) - b[i]) * (static_cast<double>(a[i]) - b[i]);
  }
  const auto n = static_cast<double>(b.size());
  return std::sqrt(distance / n) / std::sqrt(square / n - mean * mean / n / n);
}

}  // namespace cajal::testing
