#include "cajal/train/curve_fit.h"

#include <gtest/gtest.h>

#include "cajal/core/error.h"

namespace {
using namespace cajal;

/// Curves whose class is the sign of their level.
CurveSet levels(int64_t count) {
  const auto y = torch::arange(count, torch::kLong).remainder(2);
  const auto x =
      (2 * y - 1).to(torch::kFloat).view({-1, 1, 1}) + 0.3 * torch::randn({count, 12, 1});
  return {x, y};
}

train::MakeCurveModel linear() {
  return [](const CurveSet& set) {
    return functional_linear_model(set.x.size(1), set.x.size(2), 2, 5);
  };
}

// The trap: a rate that was chosen by a look at test curves. The fifth that judges is not learned.
TEST(HeldOutQuality, JudgesCurvesThatTheModelDidNotLearnFrom) {
  torch::manual_seed(1);
  const auto set = levels(50);
  std::vector<torch::Tensor> seen;
  const auto make = [&](const CurveSet& learned) {
    seen.push_back(learned.x);
    return functional_linear_model(12, 1, 2, 5);
  };
  train::held_out_quality(make, set, {.batch = 10, .steps = 2}, 2);
  ASSERT_EQ(seen.size(), 2u);
  EXPECT_TRUE(torch::equal(seen[0], set.x.slice(0, 0, 40)));
  EXPECT_TRUE(torch::equal(seen[1], torch::cat({set.x.slice(0, 0, 30), set.x.slice(0, 40)})));
}

TEST(HeldOutQuality, OfCurvesThatAreEasyToTellIsHigh) {
  torch::manual_seed(2);
  EXPECT_GE(
      train::held_out_quality(linear(), levels(100), {.batch = 20, .steps = 100, .rate = 0.1}, 5),
      0.95);
}

TEST(HeldOutQuality, OfNumbersIsMinusTheSquaredError) {
  torch::manual_seed(3);
  auto set = levels(40);
  set.y = torch::full({40, 1}, 3.0);
  const auto zero = [](const CurveSet&) {
    return CurveModel{[](const torch::Tensor& x) {
                        return torch::zeros({x.size(0), 1});
                      },
                      {},
                      nullptr,
                      nullptr};
  };
  EXPECT_DOUBLE_EQ(train::held_out_quality(zero, set, {}), -9.0);
}

TEST(HeldOutQuality, RefusesTooFewCurves) {
  EXPECT_THROW(train::held_out_quality(linear(), levels(4), {}), Error);
}

}  // namespace
