#include "cajal/kernels/rows.h"

#include <gtest/gtest.h>

#include <numeric>

#include "kernels/numbers.h"

namespace cajal {
namespace {

/// A random matrix with `gap` bytes between its rows.
struct Matrix {
  Matrix(Format format, int64_t rows, int64_t width, int64_t gap = 0)
      : bytes(rows * (row_bytes(format, width) + gap), 0x5a),
        view(
            row_matrix(format, bytes.data(), rows, width, "test", row_bytes(format, width) + gap)) {
    const auto values = normals(rows * width, 11);
    for (int64_t r = 0; r < rows; ++r)
      encode_row(format, values.data() + r * width, width, bytes.data() + r * view.stride);
  }
  std::vector<uint8_t> bytes;
  RowMatrix view;
};

std::vector<float> dots(const Matrix& matrix, const RowSet& rows, const std::vector<float>& x,
                        int threads = 1, decltype(naive::dot_rows)* kernel = dot_rows) {
  const auto batch = static_cast<int64_t>(x.size()) / matrix.view.width;
  std::vector<float> y(batch * rows.count(), NAN);
  ThreadPool pool(threads);
  kernel(matrix.view, rows, x.data(), batch, y.data(), pool);
  return y;
}

std::vector<float> sums(const Matrix& matrix, const RowSet& rows, const std::vector<float>& a,
                        int threads = 1, decltype(naive::gather_axpy)* kernel = gather_axpy) {
  const auto batch = static_cast<int64_t>(a.size()) / rows.count();
  auto y = normals(batch * matrix.view.width, 3);
  ThreadPool pool(threads);
  kernel(matrix.view, rows, a.data(), batch, y.data(), pool);
  return y;
}

std::vector<float> dots(const Matrix& matrix, const RowSet& rows, const RoundedActivations& x,
                        int threads = 1) {
  std::vector<float> y(x.batch * rows.count(), NAN);
  ThreadPool pool(threads);
  dot_rows(matrix.view, rows, x, y.data(), pool);
  return y;
}

const std::vector<int32_t> kSome = {5, 3, 60, 0, 41, 41, 64, 17, 8};

class Rows : public testing::TestWithParam<Format> {
 protected:
  int64_t width() const { return std::max(320, 3 * block_values(GetParam())); }
};

TEST_P(Rows, DotEqualsTheNaiveFormOnEveryTarget) {
  const Matrix matrix(GetParam(), 65, width(), 6);
  for (const int64_t batch : {1, 2, 3, 7, 11}) {
    const auto x = normals(batch * width(), 5);
    for (const auto& rows : {RowSet::range(0, 65), RowSet::range(2, 5), RowSet::list(kSome)}) {
      const auto expected = dots(matrix, rows, x, 1, naive::dot_rows);
      on_every_target([&] { EXPECT_LT(relative_error(dots(matrix, rows, x), expected), 1e-5); });
    }
  }
}

TEST_P(Rows, DotOfRoundedActivationsEqualsTheNaiveFormOnEveryTarget) {
  if (!is_quantised(GetParam())) return;  // refused, see below
  for (const int64_t width : {int64_t{block_values(GetParam())}, this->width()}) {
    const Matrix matrix(GetParam(), 65, width, 6);
    for (const int64_t batch : {1, 2, 3, 7, 11}) {
      for (const int bits : {8, 16}) {
        const RoundedActivations x(normals(batch * width, 5).data(), batch, width, bits);
        for (const auto& rows : {RowSet::range(0, 65), RowSet::range(2, 5), RowSet::list(kSome)}) {
          const auto expected = dots(matrix, rows, x.values(), 1, naive::dot_rows);
          on_every_target(
              [&] { EXPECT_LT(relative_error(dots(matrix, rows, x), expected), 1e-5); });
        }
      }
    }
  }
}

TEST_P(Rows, GatherAxpyEqualsTheNaiveFormOnEveryTarget) {
  const Matrix matrix(GetParam(), 65, width(), 6);
  for (const int64_t batch : {1, 2, 3, 7}) {
    for (const auto& rows : {RowSet::range(0, 65), RowSet::range(2, 5), RowSet::list(kSome)}) {
      const auto a = normals(batch * rows.count(), 5);
      const auto expected = sums(matrix, rows, a, 1, naive::gather_axpy);
      on_every_target([&] { EXPECT_LT(relative_error(sums(matrix, rows, a), expected), 1e-5); });
    }
  }
}

TEST_P(Rows, AreBitwiseTheSameForEveryNumberOfThreads) {
  const Matrix matrix(GetParam(), 65, width());
  const auto rows = RowSet::list(kSome);
  const auto x = normals(3 * width(), 5), a = normals(3 * rows.count(), 6);
  for (const int threads : {2, 3, 5}) {
    EXPECT_EQ(dots(matrix, rows, x, threads), dots(matrix, rows, x));
    EXPECT_EQ(sums(matrix, rows, a, threads), sums(matrix, rows, a));
    if (!is_quantised(GetParam())) continue;
    const RoundedActivations rounded(x.data(), 3, width(), 8);
    EXPECT_EQ(dots(matrix, rows, rounded, threads), dots(matrix, rows, rounded));
  }
}

TEST_P(Rows, AreBitwiseTheSameForEveryNumberOfThreadsWhereASumHasManyChunks) {
  const int64_t rows = 400;
  const Matrix matrix(GetParam(), rows, 4 * width());
  const auto a = normals(rows, 6);
  const auto one = sums(matrix, RowSet::range(0, rows), a);
  for (const int threads : {2, 3, 5})
    EXPECT_EQ(sums(matrix, RowSet::range(0, rows), a, threads), one);
  EXPECT_LT(relative_error(one, sums(matrix, RowSet::range(0, rows), a, 1, naive::gather_axpy)),
            1e-5);
}

TEST_P(Rows, WhoseFactorIsZeroMayBeLeftOutOfASumWithoutChangingABit) {
  constexpr int64_t kRows = 2000;  // several chunks
  const Matrix matrix(GetParam(), kRows, width());
  auto a = normals(kRows, 6);
  std::vector<int32_t> live;
  std::vector<float> of_live;
  for (int32_t r = 0; r < kRows; ++r) {
    if (a[r] < 1) a[r] = 0;
    if (a[r] > 0) live.push_back(r), of_live.push_back(a[r]);
  }
  EXPECT_EQ(sums(matrix, RowSet::list(live), of_live, 2), sums(matrix, RowSet::range(0, kRows), a));
}

TEST_P(Rows, GiveARowTheSameBitsWhateverStandsBesideIt) {
  const Matrix matrix(GetParam(), 65, width());
  const auto x = normals(8 * width(), 5);
  const auto together = dots(matrix, RowSet::range(0, 65), x);
  for (int64_t b = 0; b < 8; ++b) {
    const std::vector<float> one(x.begin() + b * width(), x.begin() + (b + 1) * width());
    for (const int64_t r : {0, 33, 64})
      EXPECT_EQ(dots(matrix, RowSet::range(r, r + 1), one)[0], together[b * 65 + r]);
  }
}

TEST_P(Rows, OfAnEmptySetChangeNothing) {
  const Matrix matrix(GetParam(), 3, width());
  ThreadPool pool(2);
  const auto x = normals(width(), 5);
  auto y = normals(width(), 6);
  const auto before = y;
  dot_rows(matrix.view, RowSet::list({}), x.data(), 1, y.data(), pool);
  gather_axpy(matrix.view, RowSet::range(2, 2), x.data(), 1, y.data(), pool);
  EXPECT_EQ(y, before);
}

INSTANTIATE_TEST_SUITE_P(All, Rows, kEveryFormat,
                         [](const auto& info) { return to_name(info.param); });

class RaggedRows : public testing::TestWithParam<Format> {};

TEST_P(RaggedRows, OfAnyWidthEqualTheNaiveForm) {
  for (const int64_t width : {1, 31, 33, 40, 100}) {
    const Matrix matrix(GetParam(), 65, width);
    for (const int64_t count : {1, 3, 65}) {
      const auto rows = RowSet::range(65 - count, 65);
      const auto x = normals(2 * width, 5), a = normals(2 * count, 6);
      const auto expected_dots = dots(matrix, rows, x, 1, naive::dot_rows);
      const auto expected_sums = sums(matrix, rows, a, 1, naive::gather_axpy);
      on_every_target([&] {
        EXPECT_LT(relative_error(dots(matrix, rows, x, 2), expected_dots), 1e-5);
        EXPECT_LT(relative_error(sums(matrix, rows, a, 2), expected_sums), 1e-5);
      });
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, RaggedRows, testing::Values(Format::f32, Format::f16, Format::bf16),
                         [](const auto& info) { return to_name(info.param); });

TEST(RoundedActivations, AreWithinHalfAStepOfTheirBlockOnEveryTarget) {
  auto x = normals(2 * 96, 5);
  std::fill_n(x.begin() + 32, 32, 0.0f);
  for (const int bits : {8, 16}) {
    on_every_target([&] {
      const RoundedActivations rounded(x.data(), 2, 96, bits);
      const auto values = rounded.values();
      for (int64_t i = 0; i < 2 * 96; ++i) {
        const auto block = x.begin() + i / 32 * 32;
        const float step = largest({block, block + 32}) / (bits == 8 ? 127 : 32512);
        ASSERT_NEAR(values[i], x[i], 0.5001f * step);
      }
      const float sum = std::accumulate(values.begin(), values.begin() + 32, 0.0f);
      EXPECT_NEAR(rounded.sums[0], sum, 1e-5f);
    });
  }
}

TEST(RoundedActivations, OfInfinitiesAndNansDoNoHarm) {
  std::vector<float> x(64, 1.0f);
  x[3] = INFINITY, x[40] = NAN;
  on_every_target([&] {
    const RoundedActivations rounded(x.data(), 1, 64, 16);
    EXPECT_EQ(rounded.values().size(), 64);
  });
}

TEST(RoundedActivations, RefuseWhatTheyCannotMultiply) {
  const std::vector<float> x(64, 1.0f);
  EXPECT_THROW(RoundedActivations(x.data(), 1, 40, 8), Error);
  EXPECT_THROW(RoundedActivations(x.data(), 1, 64, 4), Error);
  const RoundedActivations rounded(x.data(), 1, 64, 8);
  EXPECT_THROW(dots(Matrix(Format::q8_0, 1, 96), RowSet::range(0, 1), rounded), Error);
  EXPECT_THROW(dots(Matrix(Format::bf16, 1, 64), RowSet::range(0, 1), rounded), Error);
}

TEST(RowMatrix, RefusesAStrideShorterThanARow) {
  const uint8_t byte = 0;
  try {
    row_matrix(Format::q4_0, &byte, 2, 64, "blk.0.ffn_up.weight", 35);
    FAIL();
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(),
                 "blk.0.ffn_up.weight: the stride is 35 bytes, expected at least 36 (64 q4_0)");
  }
}

}  // namespace
}  // namespace cajal
