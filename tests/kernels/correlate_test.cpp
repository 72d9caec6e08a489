#include "cajal/kernels/correlate.h"

#include "kernels/every_target.h"

namespace cajal {
namespace {

const std::vector<int64_t> kOffsets = {0, 3, 1, 40, 7, 2, 11};
constexpr int64_t kLength = 9001;  // blocks, vectors and a rest

TEST(Correlate, EqualsASumOfShiftedLines) {
  const auto x = normals(kLength + 40, 1), weights = normals(7, 2);
  std::vector<float> expected(kLength), y(kLength);
  for (int64_t i = 0; i < kLength; ++i) {
    double sum = 0;
    for (size_t k = 0; k < 7; ++k) sum += double{weights[k]} * x[i + kOffsets[k]];
    expected[i] = static_cast<float>(sum);
  }
  on_every_target([&] {
    correlate(x.data(), kOffsets, weights.data(), kLength, y.data());
    EXPECT_LT(relative_error(y, expected), 1e-6);
  });
}

TEST(Correlate, SumsProductsWithEachShiftedLine) {
  const auto x = normals(kLength + 40, 3), y = normals(kLength, 4);
  std::vector<float> expected, sums(7);
  for (const auto offset : kOffsets) {
    double sum = 0;
    for (int64_t i = 0; i < kLength; ++i) sum += double{y[i]} * x[i + offset];
    expected.push_back(static_cast<float>(sum));
  }
  on_every_target([&] {
    correlate_sums(x.data(), kOffsets, y.data(), kLength, sums.data());
    EXPECT_LT(relative_error(sums, expected), 1e-5);
  });
}

}  // namespace
}  // namespace cajal
