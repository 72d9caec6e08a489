#include "cajal/math/calibration.h"

#include <gtest/gtest.h>

#include <vector>

#include "cajal/core/error.h"

namespace cajal::math {
namespace {

TEST(Calibration, ErrorIsTheMeanGapOfTheBins) {
  const std::vector<float> sure = {0.95f, 0.95f, 0.15f, 1.0f}, right = {1, 0, 0, 1};
  // Bin of 0.95 and 1: 2.9 sure, 2 right; bin of 0.15: 0.15 sure, 0 right.
  EXPECT_NEAR(calibration_error(sure, right, 10), (0.9 + 0.15) / 4, 1e-6);
  EXPECT_EQ(calibration_error(std::vector{1.0f}, std::vector{1.0f}), 0);
  EXPECT_THROW(calibration_error(sure, std::vector{1.0f}), Error);
}

TEST(SignTest, IsThatOfFairCoins) {
  EXPECT_NEAR(sign_test(0, 5), 2.0 / 32, 1e-12);
  EXPECT_NEAR(sign_test(4, 5), 12.0 / 32, 1e-12);
  EXPECT_NEAR(sign_test(5, 10), 1, 1e-12);
  EXPECT_THROW(sign_test(3, 2), Error);
}

}  // namespace
}  // namespace cajal::math
