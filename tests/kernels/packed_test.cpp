#include "cajal/kernels/packed.h"

#include <gtest/gtest.h>

#include "kernels/numbers.h"

namespace cajal {
namespace {

/// Random rows in a format.
struct Stored {
  Stored(Format format, int64_t rows, int64_t width, uint64_t seed = 11)
      : bytes(rows * row_bytes(format, width)),
        view(row_matrix(format, bytes.data(), rows, width, "test")) {
    const auto values = normals(rows * width, seed);
    for (int64_t r = 0; r < rows; ++r)
      encode_row(format, values.data() + r * width, width, bytes.data() + r * view.stride);
  }
  std::vector<uint8_t> bytes;
  RowMatrix view;
};

/// Vectors as a format is multiplied with them.
struct Vectors {
  Vectors(Format format, int64_t batch, int64_t width, int bits = 8)
      : values(normals(batch * width, 5)), batch(batch), width(width) {
    if (is_quantised(format))
      rounded = std::make_unique<RoundedActivations>(values.data(), batch, width, bits);
  }
  PackedInput input() const {
    return rounded ? PackedInput(*rounded) : PackedInput(values.data(), batch, width);
  }
  std::vector<float> values;
  std::unique_ptr<RoundedActivations> rounded;
  int64_t batch, width;
};

using Kernel = decltype(naive::multiply);

std::vector<float> products(const PackedMatrix& matrix, const RowSet& groups, const Vectors& x,
                            int threads = 1, Kernel* kernel = multiply) {
  std::vector<float> y(x.batch * output_width(matrix, groups), NAN);
  ThreadPool pool(threads);
  kernel(matrix, groups, x.input(), y.data(), pool);
  return y;
}

std::vector<float> sums(const PackedMatrix& matrix, const RowSet& groups, const Vectors& x,
                        int threads = 1, Kernel* kernel = accumulate) {
  auto y = normals(x.batch * matrix.rows(), 3);
  ThreadPool pool(threads);
  kernel(matrix, groups, x.input(), y.data(), pool);
  return y;
}

const std::vector<int32_t> kSome = {0, 2, 3, 5, 6};  // of seven groups, the last one ragged

class Packed : public testing::TestWithParam<Format> {
 protected:
  int64_t block() const { return std::max(32, block_values(GetParam())); }
  int64_t width() const { return std::max<int64_t>(160, 3 * block()); }
  PackedMatrix rows(int64_t rows, int64_t width) const {
    return pack(Stored(GetParam(), rows, width).view, Grouping::rows);
  }
  PackedMatrix columns(int64_t rows, int64_t width) const {
    return pack(Stored(GetParam(), rows, width).view, Grouping::columns);
  }
  Vectors vectors(int64_t batch, int64_t width, int bits = 8) const {
    return {GetParam(), batch, width, bits};
  }
};

TEST_P(Packed, GivesBlocksOfThirtyTwoRowsAsTheyWereStored) {
  const Stored stored(GetParam(), 70, width());
  const auto packed = pack(stored.view, Grouping::rows);
  const int64_t size = row_bytes(GetParam(), block()), stride = 2 * size + 4;
  std::vector<uint8_t> blocks(32 * stride);
  packed.get_blocks(1, 1, 2, blocks.data(), stride);
  for (int64_t r = 0; r < 32; ++r)
    ASSERT_TRUE(std::equal(blocks.begin() + r * stride, blocks.begin() + r * stride + 2 * size,
                           stored.view.row(32 + r) + size));
}

TEST_P(Packed, KeepsEveryByteOfARow) {
  const Stored stored(GetParam(), 65, width());
  for (const auto grouping : {Grouping::rows, Grouping::columns}) {
    const auto packed = pack(stored.view, grouping);
    std::vector<uint8_t> row(stored.view.stride);
    for (int64_t r = 0; r < 65; ++r) {
      packed.get_row(r, row.data());
      ASSERT_TRUE(std::equal(row.begin(), row.end(), stored.view.row(r)));
    }
  }
}

TEST_P(Packed, TakesTheMemoryOfItsRowsInWholeLinesOf64) {
  const auto packed = rows(96, width());
  EXPECT_EQ(packed.bytes(), 96 * row_bytes(GetParam(), width()));
  EXPECT_EQ(packed.tile_bytes() % 64, 0);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(packed.tile(1, 1)) % 64, 0);
}

TEST_P(Packed, FollowsAnOrder) {
  const Stored stored(GetParam(), 40, width());
  const std::vector<int32_t> order = {39, 0, 7};
  const auto packed = pack(stored.view, Grouping::rows, order);
  std::vector<uint8_t> row(stored.view.stride);
  for (int64_t r = 0; r < 3; ++r) {
    packed.get_row(r, row.data());
    EXPECT_TRUE(std::equal(row.begin(), row.end(), stored.view.row(order[r])));
  }
  EXPECT_THROW(pack(stored.view, Grouping::rows, std::vector<int32_t>{40}), Error);
}

TEST_P(Packed, MultiplyEqualsTheNaiveFormOnEveryTarget) {
  const auto matrix = rows(7 * 32 - 9, width());
  for (const int64_t batch : {0, 1, 2, 3, 7, 11}) {
    for (const int bits : {8, 16}) {
      if (bits == 16 && !is_quantised(GetParam())) continue;
      const auto x = vectors(batch, width(), bits);
      for (const auto& groups : {RowSet::range(0, 7), RowSet::range(2, 5), RowSet::list(kSome)}) {
        const auto expected = products(matrix, groups, x, 1, naive::multiply);
        on_every_target([&] {
          const auto got = products(matrix, groups, x);
          if (batch > 0) {
            EXPECT_LT(relative_error(got, expected), 1e-5) << batch << ", " << bits;
          }
        });
      }
    }
  }
}

TEST_P(Packed, AccumulateEqualsTheNaiveFormOnEveryTarget) {
  const auto matrix = columns(3 * 32 - 9, 7 * block());
  for (const int64_t batch : {0, 1, 2, 3, 7, 11}) {
    for (const int bits : {8, 16}) {
      if (bits == 16 && !is_quantised(GetParam())) continue;
      for (const auto& groups : {RowSet::range(0, 7), RowSet::range(2, 5), RowSet::list(kSome)}) {
        const auto x = vectors(batch, groups.count() * block(), bits);
        const auto expected = sums(matrix, groups, x, 1, naive::accumulate);
        on_every_target([&] {
          const auto got = sums(matrix, groups, x);
          if (batch > 0) {
            EXPECT_LT(relative_error(got, expected), 1e-5) << batch << ", " << bits;
          }
        });
      }
    }
  }
}

TEST_P(Packed, ProductsAreBitwiseTheSameForEveryNumberOfThreadsAndBatch) {
  const auto matrix = rows(7 * 32 - 9, width());
  const auto outputs = columns(7 * 32 - 9, 7 * block());
  const auto x = vectors(5, width()), a = vectors(5, 5 * block());
  const auto one = products(matrix, RowSet::list(kSome), x);
  for (const int threads : {2, 3, 5}) {
    EXPECT_EQ(products(matrix, RowSet::list(kSome), x, threads), one);
    EXPECT_EQ(sums(outputs, RowSet::list(kSome), a, threads),
              sums(outputs, RowSet::list(kSome), a));
  }
  const auto alone = products(matrix, RowSet::list(kSome), vectors(1, width()));
  EXPECT_TRUE(std::equal(alone.begin(), alone.end(), one.begin()));
}

TEST_P(Packed, AnEmptySetOfGroupsChangesNothing) {
  const auto matrix = columns(40, 2 * block());
  std::vector<float> y = normals(40, 3);
  const auto before = y;
  ThreadPool pool(2);
  accumulate(std::span<const Term>(), y.data(), pool);
  const std::vector<int32_t> no_groups;
  if (!is_quantised(GetParam()))
    accumulate(matrix, RowSet::list(no_groups), PackedInput(y.data(), 1, 0), y.data(), pool);
  EXPECT_EQ(y, before);
}

INSTANTIATE_TEST_SUITE_P(All, Packed, kEveryFormat,
                         [](const auto& info) { return to_name(info.param); });

class RaggedPacked : public Packed {};

TEST_P(RaggedPacked, OfAnyWidthEqualsTheNaiveForm) {
  for (const int64_t width : {1, 31, 33, 40, 100}) {
    const auto matrix = rows(65, width), outputs = columns(65, width);
    const auto x = vectors(3, width);
    const auto all = RowSet::range(0, matrix.groups()), slabs = RowSet::range(0, outputs.groups());
    const auto expected = products(matrix, all, x, 1, naive::multiply);
    const auto expected_sums = sums(outputs, slabs, x, 1, naive::accumulate);
    on_every_target([&] {
      EXPECT_LT(relative_error(products(matrix, all, x, 2), expected), 1e-5);
      EXPECT_LT(relative_error(sums(outputs, slabs, x, 2), expected_sums), 1e-5);
    });
  }
}

INSTANTIATE_TEST_SUITE_P(All, RaggedPacked, testing::Values(Format::f32, Format::f16, Format::bf16),
                         [](const auto& info) { return to_name(info.param); });

TEST(PackedMatrix, RefusesVectorsOfAnotherKindOrWidth) {
  const auto matrix = pack(Stored(Format::q8_0, 40, 64).view, Grouping::rows);
  const auto all = RowSet::range(0, 2);
  EXPECT_THROW(products(matrix, all, Vectors(Format::f32, 1, 64)), Error);
  EXPECT_THROW(products(matrix, all, Vectors(Format::q8_0, 1, 96)), Error);
  EXPECT_THROW(sums(matrix, all, Vectors(Format::q8_0, 1, 64)), Error);
  EXPECT_THROW(PackedMatrix(Format::q4_K, 3, 128, Grouping::rows, "blk.0.ffn_up.weight"), Error);
}

}  // namespace
}  // namespace cajal
