#include "cajal/kernels/gemm.h"

#include <numeric>

#include "cajal/core/error.h"
#include "kernels/every_target.h"
#include "kernels/stored.h"

namespace cajal {
namespace {

constexpr double kBf16Error = 1.0 / 128;

std::vector<float> product(const Stored& matrix, const RowSet& rows, const std::vector<float>& x,
                           Precision precision, int threads = 1) {
  const auto batch = static_cast<int64_t>(x.size()) / matrix.view.width;
  std::vector<float> y(batch * rows.count(), NAN);
  ThreadPool pool(threads);
  multiply_many(matrix.view, rows, x.data(), batch, y.data(), pool, precision);
  return y;
}

std::vector<float> naive_product(const Stored& matrix, const RowSet& rows,
                                 const std::vector<float>& x) {
  const auto batch = static_cast<int64_t>(x.size()) / matrix.view.width;
  std::vector<float> y(batch * rows.count());
  ThreadPool pool(1);
  naive::dot_rows(matrix.view, rows, x.data(), batch, y.data(), pool);
  return y;
}

/// Widths that a format allows, ragged ones for formats without blocks.
std::vector<int64_t> widths(Format format) {
  switch (block_values(format)) {
    case 1:
      return {1, 40, 256, 300};
    case 32:
      return {32, 288};
    default:
      return {256, 768};
  }
}

TEST(MultiplyMany, EqualsDotProductsForEveryFormatBatchAndTarget) {
  for (const auto& [format, name] : EnumNames<Format>::values) {
    for (const int64_t width : widths(format)) {
      const Stored matrix(format, 67, width);
      const auto rows = RowSet::range(2, 67);
      for (const int64_t batch : {0, 1, 3, 16, 65}) {
        SCOPED_TRACE(fmt::format("{} width {} batch {}", name, width, batch));
        const auto x = normals(batch * width, 5);
        const auto expected = naive_product(matrix, rows, x);
        EXPECT_LT(relative_error(product(matrix, rows, x, Precision::bf16), expected), kBf16Error);
        on_every_target([&] {
          EXPECT_LT(relative_error(product(matrix, rows, x, Precision::f32), expected), 2e-6);
        });
      }
    }
  }
}

TEST(MultiplyMany, OnTheMatrixUnitIsTheProductOfRoundedFactors) {
  if (!has_matrix_unit()) GTEST_SKIP() << "this processor has no matrix unit";
  const Stored matrix(Format::f32, 100, 2000), rounded = matrix.as(Format::bf16);
  auto x = normals(33 * 2000, 5);
  const auto rows = RowSet::range(0, 100);
  const auto got = product(matrix, rows, x, Precision::bf16);
  for (auto& value : x) value = bf16_to_float(float_to_bf16(value));
  EXPECT_LT(relative_error(got, naive_product(rounded, rows, x)), 2e-6);
}

TEST(MultiplyMany, WithoutTheMatrixUnitRoundsNothing) {
  const Stored matrix(Format::f32, 33, 128);
  const auto x = normals(17 * 128, 5);
  const auto rows = RowSet::range(0, 33);
  const WithoutMatrixUnit without;
  EXPECT_FALSE(has_matrix_unit());
  EXPECT_EQ(product(matrix, rows, x, Precision::bf16), product(matrix, rows, x, Precision::f32));
}

TEST(MultiplyMany, OfAPackedMatrixIsBitwiseThatOfItsRows) {
  for (const auto& [format, name] : EnumNames<Format>::values) {
    for (const int64_t width : widths(format)) {
      const Stored matrix(format, 300, width);
      const auto packed = pack(matrix.view, Grouping::rows);
      const auto x = normals(20 * width, 5);
      for (const auto precision : {Precision::bf16, Precision::f32}) {
        SCOPED_TRACE(fmt::format("{} width {}", name, width));
        ThreadPool pool(2);
        std::vector<float> y(20 * 300, NAN);
        multiply_many(packed, PackedActivations(x.data(), 20, width, pool, precision), y.data(),
                      pool);
        ASSERT_EQ(y, product(matrix, RowSet::range(0, 300), x, precision));
      }
    }
  }
}

TEST(MultiplyMany, TakesRowsInAnyOrderWithSpaceBetweenThem) {
  const Stored matrix(Format::q8_0, 300, 64, 6);
  std::vector<int32_t> list(290);
  for (int i = 0; i < 290; ++i) list[i] = (i * 7) % 300;
  const auto x = normals(20 * 64, 5);
  const auto rows = RowSet::list(list);
  EXPECT_LT(
      relative_error(product(matrix, rows, x, Precision::f32), naive_product(matrix, rows, x)),
      2e-6);
}

TEST(MultiplyMany, GoesOnPastAChunkOfVectors) {
  const Stored matrix(Format::q8_0, 20, 288);
  const auto x = normals((2 * PackedActivations::kChunk + 3) * 288, 5);
  const auto rows = RowSet::range(0, 20);
  const auto expected = naive_product(matrix, rows, x);
  EXPECT_LT(relative_error(product(matrix, rows, x, Precision::bf16), expected), kBf16Error);
  EXPECT_LT(relative_error(product(matrix, rows, x, Precision::f32), expected), 2e-6);
}

TEST(MultiplyMany, IsBitwiseTheSameForEveryNumberOfThreads) {
  const Stored matrix(Format::q4_K, 1100, 512);
  const auto x = normals(70 * 512, 5);
  const auto rows = RowSet::range(0, 1100);
  for (const auto precision : {Precision::bf16, Precision::f32}) {
    const auto one = product(matrix, rows, x, precision, 1);
    ThreadPool pool(2);
    std::vector<float> y(one.size());
    for (int run = 0; run < 100; ++run) {
      multiply_many(matrix.view, rows, x.data(), 70, y.data(), pool, precision);
      ASSERT_EQ(y, one) << run;
    }
    ASSERT_EQ(product(matrix, rows, x, precision, 5), one);
  }
}

TEST(MultiplyMany, KeepsWhatIsNotANumberToItsVector) {
  const Stored matrix(Format::q8_0, 33, 64);
  auto x = normals(18 * 64, 5);
  x[4 * 64 + 9] = NAN;
  for (const auto precision : {Precision::bf16, Precision::f32}) {
    const auto y = product(matrix, RowSet::range(0, 33), x, precision);
    for (size_t i = 0; i < y.size(); ++i) ASSERT_EQ(std::isnan(y[i]), i / 33 == 4) << i;
  }
}

TEST(MultiplyMany, PacksChosenVectors) {
  const Stored matrix(Format::f16, 30, 40);
  const auto x = normals(50 * 40, 5);
  const std::vector<int32_t> tokens = {49, 3, 3, 0, 20};
  ThreadPool pool(2);
  std::vector<float> chosen, y(5 * 30);
  for (const int32_t t : tokens) chosen.insert(chosen.end(), &x[t * 40], &x[t * 40] + 40);
  multiply_many(matrix.view, RowSet::range(0, 30), PackedActivations(x.data(), tokens, 40, pool),
                y.data(), pool);
  EXPECT_EQ(y, product(matrix, RowSet::range(0, 30), chosen, Precision::bf16));
}

TEST(MultiplyMany, RefusesVectorsOfAnotherWidth) {
  const Stored matrix(Format::f32, 4, 8);
  ThreadPool pool(1);
  std::vector<float> x(9 * 9), y(9 * 4);
  const PackedActivations packed(x.data(), 9, 9, pool);
  EXPECT_THROW(multiply_many(matrix.view, RowSet::range(0, 4), packed, y.data(), pool), Error);
}

}  // namespace
}  // namespace cajal
