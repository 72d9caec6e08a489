#include "cajal/kernels/packed.h"

#include <algorithm>
#include <cstring>
#include <vector>

namespace cajal {
namespace {

constexpr uint32_t kSignBits = 0x80808080;

/// How the bytes of a block lie: `halves` fp16 numbers, at the front or (q6_K) at the end, and
/// `words` words of 4 bytes.
struct BlockShape {
  int halves, words, first_half, first_word;
};

BlockShape block_shape(Format format) {
  const int bytes = is_quantised(format) ? block_bytes(format) : 32 * block_bytes(format);
  switch (format) {
    case Format::f32:
    case Format::f16:
    case Format::bf16:
      return {0, bytes / 4, 0, 0};
    case Format::q8_0:
    case Format::q4_0:
    case Format::q5_0:
      return {1, (bytes - 2) / 4, 0, 2};
    case Format::q4_1:
    case Format::q5_1:
    case Format::q4_K:
    case Format::q5_K:
      return {2, (bytes - 4) / 4, 0, 4};
    case Format::q6_K:
      return {1, (bytes - 2) / 4, bytes - 2, 0};
  }
  fail("a format without a packed form");
}

/// Bit e to bit 8 (e % 4) + e / 4, so that the bits of four neighbours lie in four bytes alike.
uint32_t spread_fifth_bits(uint32_t bits) {
  uint32_t out = 0;
  for (int e = 0; e < 32; ++e) out |= (bits >> e & 1) << (8 * (e % 4) + e / 4);
  return out;
}
uint32_t gather_fifth_bits(uint32_t bits) {
  uint32_t out = 0;
  for (int e = 0; e < 32; ++e) out |= (bits >> (8 * (e % 4) + e / 4) & 1) << e;
  return out;
}

bool has_fifth_bits(Format format) { return format == Format::q5_0 || format == Format::q5_1; }

uint32_t to_packed(Format format, int word, uint32_t value) {
  if (format == Format::q8_0) return value ^ kSignBits;
  return has_fifth_bits(format) && word == 0 ? spread_fifth_bits(value) : value;
}
uint32_t from_packed(Format format, int word, uint32_t value) {
  if (format == Format::q8_0) return value ^ kSignBits;
  return has_fifth_bits(format) && word == 0 ? gather_fifth_bits(value) : value;
}

}  // namespace

PackedMatrix::PackedMatrix(Format format, int64_t rows, int64_t width, Grouping grouping,
                           std::string_view where)
    : format_(format), grouping_(grouping), rows_(rows), width_(width) {
  require_row(format, width, where);
  require(rows > 0, "{}: {} rows", where, rows);
  tile_columns_ = std::max(32, block_values(format));
  const auto shape = block_shape(format);
  tile_bytes_ = kTileRows * (2 * shape.halves + 4 * shape.words);
  row_tiles_ = (rows + kTileRows - 1) / kTileRows;
  column_tiles_ = (width + tile_columns_ - 1) / tile_columns_;
  int64_t bytes = 0;
  require(!__builtin_mul_overflow(row_tiles_, column_tiles_, &bytes) &&
              !__builtin_mul_overflow(bytes, tile_bytes_, &bytes),
          "{}: {} rows of {} values are more than memory can hold", where, rows, width);
  memory_ = WeightMemory(bytes);
}

/// Calls visit(offset in the stored block, offset in memory, bytes, word) for each piece of a
/// block.
template <class Visit>
void PackedMatrix::for_words(int64_t row, int64_t column_tile, const Visit& visit) const {
  const auto shape = block_shape(format_);
  const int64_t lane = row % kTileRows;
  const int64_t at = tile(row / kTileRows, column_tile) - tile(0, 0);
  for (int h = 0; h < shape.halves; ++h)
    visit(shape.first_half + 2 * h, at + 64 * h + 2 * lane, 2, -1);
  const int64_t panel = at + 64 * shape.halves + lane / 16 * shape.words * 64 + lane % 16 * 4;
  for (int w = 0; w < shape.words; ++w) visit(shape.first_word + 4 * w, panel + 64 * w, 4, w);
}

void PackedMatrix::set_block(int64_t row, int64_t column_tile, const void* stored) {
  auto* const to = reinterpret_cast<uint8_t*>(memory_.data());
  for_words(row, column_tile, [&](int64_t from, int64_t at, int64_t bytes, int word) {
    uint32_t value = 0;
    std::memcpy(&value, static_cast<const uint8_t*>(stored) + from, bytes);
    if (word >= 0) value = to_packed(format_, word, value);
    std::memcpy(to + at, &value, bytes);
  });
}

void PackedMatrix::set_row(int64_t row, const void* stored) {
  const int64_t size = row_bytes(format_, width_), block = tile_bytes_ / kTileRows;
  const auto* const from = static_cast<const uint8_t*>(stored);
  for (int64_t c = 0; c < size / block; ++c) set_block(row, c, from + c * block);
  if (size % block == 0) return;  // else values that stand alone in a ragged row
  std::vector<uint8_t> padded(block);
  std::copy(from + size / block * block, from + size, padded.begin());
  set_block(row, size / block, padded.data());
}

void PackedMatrix::get_row(int64_t row, void* stored) const {
  const int64_t size = row_bytes(format_, width_), block = tile_bytes_ / kTileRows;
  const auto* const base = reinterpret_cast<const uint8_t*>(memory_.data());
  std::vector<uint8_t> whole(block);
  for (int64_t c = 0; c < column_tiles_; ++c) {
    for_words(row, c, [&](int64_t to, int64_t at, int64_t bytes, int word) {
      uint32_t value = 0;
      std::memcpy(&value, base + at, bytes);
      if (word >= 0) value = from_packed(format_, word, value);
      std::memcpy(whole.data() + to, &value, bytes);
    });
    std::copy_n(whole.begin(), std::min(block, size - c * block),
                static_cast<uint8_t*>(stored) + c * block);
  }
}

void PackedMatrix::get_blocks(int64_t row_tile, int64_t column_tile, int64_t count, uint8_t* stored,
                              int64_t stride) const {
  const auto shape = block_shape(format_);
  const int64_t block = tile_bytes_ / kTileRows;
  const uint32_t flip = format_ == Format::q8_0 ? kSignBits : 0;
  const bool fifth = has_fifth_bits(format_);
  for (int64_t c = 0; c < count; ++c, stored += block) {
    const uint8_t* from = tile(row_tile, column_tile + c);
    for (int h = 0; h < shape.halves; ++h, from += 64) {
      uint8_t* const to = stored + shape.first_half + 2 * h;
      for (int64_t r = 0; r < kTileRows; ++r) std::memcpy(to + r * stride, from + 2 * r, 2);
    }
    for (int64_t first = 0; first < kTileRows; first += 16) {
      uint8_t* to = stored + first * stride + shape.first_word;
      for (int w = 0; w < shape.words; ++w, from += 64, to += 4) {
        uint32_t words[16];
        std::memcpy(words, from, 64);
        if (fifth && w == 0)
          for (auto& word : words) word = gather_fifth_bits(word);
        for (int64_t r = 0; r < 16; ++r) {
          words[r] ^= flip;
          std::memcpy(to + r * stride, &words[r], 4);
        }
      }
    }
  }
}

PackedMatrix pack(const RowMatrix& matrix, Grouping grouping, std::span<const int32_t> order) {
  const int64_t rows = order.empty() ? matrix.rows : static_cast<int64_t>(order.size());
  PackedMatrix packed(matrix.format, rows, matrix.width, grouping, "packed matrix");
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t from = order.empty() ? r : order[r];
    require(from >= 0 && from < matrix.rows, "packed matrix: row {} of {} in the order", from,
            matrix.rows);
    packed.set_row(r, matrix.row(from));
  }
  return packed;
}

PackedInput whole_columns(const PackedInput& x, std::vector<float>& padded) {
  if (x.rounded || x.stride % 32 == 0) return x;
  const int64_t stride = (x.width + 31) / 32 * 32;
  padded.assign(x.batch * stride, 0.0f);
  for (int64_t b = 0; b < x.batch; ++b)
    std::copy_n(x.values + b * x.stride, x.width, padded.begin() + b * stride);
  return {padded.data(), x.batch, x.width, stride};
}

void require_input(const PackedMatrix& matrix, const PackedInput& x, int64_t width) {
  require(is_quantised(matrix.format()) == (x.rounded != nullptr),
          "a packed {} matrix does not take {} vectors", to_name(matrix.format()),
          x.rounded ? "rounded" : "single-precision");
  require(x.width == width, "vectors of {} values, expected {}", x.width, width);
}

void multiply(const PackedMatrix& matrix, const RowSet& groups, const PackedInput& x, float* y,
              ThreadPool& threads) {
  require(matrix.grouping() == Grouping::rows, "multiply needs groups of rows");
  require_input(matrix, x, matrix.width());
  threads.parallel_for(groups.count(), 1, [&](int64_t begin, int64_t end) {
    multiply_part(matrix, groups, begin, end, x, y);
  });
}

namespace naive {
namespace {

std::vector<float> decoded(const PackedMatrix& matrix, int64_t row) {
  std::vector<float> values(matrix.column_tiles() * matrix.tile_columns());
  if (row >= matrix.rows()) return values;
  std::vector<uint8_t> stored(row_bytes(matrix.format(), matrix.width()));
  matrix.get_row(row, stored.data());
  decode_row(matrix.format(), stored.data(), matrix.width(), values.data());
  return values;
}

std::vector<float> plain(const PackedInput& x) {
  if (x.rounded) return x.rounded->values();
  std::vector<float> values;
  for (int64_t b = 0; b < x.batch; ++b)
    values.insert(values.end(), x.values + b * x.stride, x.values + b * x.stride + x.width);
  return values;
}

}  // namespace

void multiply(const PackedMatrix& matrix, const RowSet& groups, const PackedInput& x, float* y,
              ThreadPool&) {
  const auto of = plain(x);
  const int64_t stride = output_width(matrix, groups);
  for (int64_t at = 0; at < stride; ++at) {
    const auto row = decoded(matrix, kTileRows * groups[at / kTileRows] + at % kTileRows);
    for (int64_t b = 0; b < x.batch; ++b) {
      double sum = 0;
      for (int64_t c = 0; c < x.width; ++c) sum += double{row[c]} * of[b * x.width + c];
      y[b * stride + at] = static_cast<float>(sum);
    }
  }
}

void accumulate(const PackedMatrix& matrix, const RowSet& groups, const PackedInput& x, float* y,
                ThreadPool&) {
  const auto of = plain(x);
  for (int64_t r = 0; r < matrix.rows(); ++r) {
    const auto row = decoded(matrix, r);
    for (int64_t b = 0; b < x.batch; ++b) {
      double sum = y[b * matrix.rows() + r];
      for (int64_t c = 0; c < x.width; ++c) {
        const int64_t column =
            groups[c / matrix.tile_columns()] * matrix.tile_columns() + c % matrix.tile_columns();
        sum += double{row[column]} * of[b * x.width + c];
      }
      y[b * matrix.rows() + r] = static_cast<float>(sum);
    }
  }
}

}  // namespace naive
}  // namespace cajal
