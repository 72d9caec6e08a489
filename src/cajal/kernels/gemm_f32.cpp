#include <algorithm>

#include "cajal/kernels/gemm_kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cajal/kernels/gemm_f32.cpp"
#include "cajal/kernels/simd_targets.h"
// After the choice of targets.
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "cajal/kernels/decode-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cajal {
namespace HWY_NAMESPACE {

void DecodeColumns(Format format, const uint8_t* row, int64_t first, int64_t count, float* out) {
  WithDecoder(format, [&](auto decoder) HWY_ATTR {
    using Decoder = decltype(decoder);
    constexpr int64_t values = Decoder::kValues, bytes = Decoder::kBytes;
    const uint8_t* at = row + row_bytes(format, first);
    int64_t done = 0;
    for (; done + values <= count; done += values, at += bytes)
      Decoder::Decode(at, [&](size_t i, VF v) HWY_ATTR { hn::StoreU(v, df, out + done + i); });
    if (done == count) return;  // what is left has values that stand alone
    uint8_t padded[bytes] = {};
    std::memcpy(padded, at, (count - done) * (bytes / values));
    Decoder::Decode(padded, [&](size_t i, VF v) HWY_ATTR { hn::StoreU(v, df, out + done + i); });
  });
}

/// Rows of C at a time and tiles of 16 columns: what the registers of sums allow.
constexpr int kVectors = kTile / kLanes;
constexpr int kRows = HWY_TARGET <= HWY_AVX3 ? 8 : 4;
constexpr int kColumnTiles = HWY_TARGET <= HWY_AVX3 ? 2 : 1;

/// left[i * kRowStep + k * kDepthStep] for i < kRows, right a tile [depth, 16] every `tile` floats.
template <int kRowStep, int kDepthStep, int kTiles>
HWY_INLINE void MultiplyTile(const float* left, const float* right, int64_t tile, int64_t depth,
                             bool add, float* c, int64_t stride) {
  VF sum[kRows][kTiles][kVectors];
  for (int i = 0; i < kRows; ++i)
    for (int t = 0; t < kTiles; ++t)
      for (int v = 0; v < kVectors; ++v)
        sum[i][t][v] = add ? hn::LoadU(df, c + i * stride + t * kTile + v * kLanes) : hn::Zero(df);
  for (int64_t k = 0; k < depth; ++k, left += kDepthStep, right += kTile) {
    VF of[kTiles][kVectors];
    for (int t = 0; t < kTiles; ++t)
      for (int v = 0; v < kVectors; ++v) of[t][v] = hn::LoadU(df, right + t * tile + v * kLanes);
    for (int i = 0; i < kRows; ++i) {
      const auto a = hn::Set(df, left[i * kRowStep]);
      for (int t = 0; t < kTiles; ++t)
        for (int v = 0; v < kVectors; ++v) sum[i][t][v] = hn::MulAdd(a, of[t][v], sum[i][t][v]);
    }
  }
  for (int i = 0; i < kRows; ++i)
    for (int t = 0; t < kTiles; ++t)
      for (int v = 0; v < kVectors; ++v)
        hn::StoreU(sum[i][t][v], df, c + i * stride + t * kTile + v * kLanes);
}

template <int kRowStep, int kDepthStep>
HWY_INLINE void MultiplyAll(const float* left, const float* right, int64_t row_tiles,
                            int64_t column_tiles, int64_t depth, bool add, float* c,
                            int64_t stride) {
  const int64_t tile = kTile * depth;
  for (int64_t row = 0; row < row_tiles * kTile; row += kRows) {
    const float* const of =
        kRowStep == 1 ? left + row / kTile * tile + row % kTile : left + row * kRowStep;
    int64_t column = 0;
    for (; column + kColumnTiles <= column_tiles; column += kColumnTiles)
      MultiplyTile<kRowStep, kDepthStep, kColumnTiles>(of, right + column * tile, tile, depth, add,
                                                       c + row * stride + column * kTile, stride);
    for (; column < column_tiles; ++column)
      MultiplyTile<kRowStep, kDepthStep, 1>(of, right + column * tile, tile, depth, add,
                                            c + row * stride + column * kTile, stride);
  }
}

void Multiply(const uint8_t* left, const uint8_t* right, int64_t row_tiles, int64_t column_tiles,
              int64_t depth, bool hidden, bool add, float* c, int64_t stride) {
  const auto* const l = reinterpret_cast<const float*>(left);
  const auto* const r = reinterpret_cast<const float*>(right);
  if (hidden) {
    MultiplyAll<1, kTile>(l, r, row_tiles, column_tiles, depth, add, c, stride);
  } else {
    MultiplyAll<kDepth, 1>(l, r, row_tiles, column_tiles, depth, add, c, stride);
  }
}

double Spin(int64_t rounds) {
  VF sum[kRows];
  const auto factor = hn::Set(df, 0.5f);
  for (int i = 0; i < kRows; ++i) sum[i] = hn::Set(df, static_cast<float>(i));
  for (int64_t k = 0; k < rounds; ++k)
    for (int i = 0; i < kRows; ++i) sum[i] = hn::MulAdd(sum[i], factor, factor);
  for (int i = 1; i < kRows; ++i) sum[0] = hn::Add(sum[0], sum[i]);
  const double done = static_cast<double>(rounds * kRows * 2 * static_cast<int64_t>(kLanes));
  return hn::GetLane(hn::SumOfLanes(df, sum[0])) < 0 ? 0 : done;  // the sum is needed
}

}  // namespace HWY_NAMESPACE
}  // namespace cajal
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cajal {

HWY_EXPORT(DecodeColumns);
HWY_EXPORT(Multiply);
HWY_EXPORT(Spin);

void decode_columns(Format format, const uint8_t* row, int64_t first, int64_t count, float* out) {
  HWY_DYNAMIC_DISPATCH(DecodeColumns)(format, row, first, count, out);
}

namespace {

float* floats(uint8_t* bytes) { return reinterpret_cast<float*>(bytes); }

void pack_vectors(const float* const x[kTile], int64_t k, int64_t width, int64_t depth,
                  uint8_t* tile) {
  float* const out = floats(tile);
  const int64_t count = std::min(depth, width - k);
  std::fill_n(out, depth * kTile, 0.0f);
  for (int64_t t = 0; t < kTile; ++t)
    if (x[t])
      for (int64_t i = 0; i < count; ++i) out[i * kTile + t] = x[t][k + i];
}

/// Row-major, kDepth floats from row to row.
void pack_rows(const RowSlice& rows, int64_t k, int64_t depth, uint8_t* left) {
  const int64_t count = std::min(depth, rows.matrix.width - k);
  const int64_t padded = round_up(rows.count, kTile);
  std::fill(floats(left) + rows.count * kDepth, floats(left) + padded * kDepth, 0.0f);
  for (int64_t i = 0; i < rows.count; ++i)
    decode_columns(rows.matrix.format, rows.row(i), k, count, floats(left) + i * kDepth);
}

void pack_columns(const RowSlice& rows, int64_t first, int64_t count, int64_t depth,
                  uint8_t* right) {
  float row[kPanel + 32] = {};
  for (int64_t i = 0; i < depth; ++i) {
    if (i < rows.count) {
      decode_columns(rows.matrix.format, rows.row(i), first, count, row);
    } else {
      std::fill_n(row, kPanel, 0.0f);
    }
    for (int64_t column = 0; column < count; column += kTile)
      std::copy_n(row + column, kTile, floats(right) + column * depth + i * kTile);
  }
}

void pack_hidden(const float* c, int64_t stride, int64_t depth, int64_t tiles, int64_t tile_bytes,
                 uint8_t* out) {
  for (int64_t tile = 0; tile < tiles; ++tile)
    for (int64_t i = 0; i < depth; ++i)
      std::copy_n(c + i * stride + tile * kTile, kTile,
                  floats(out + tile * tile_bytes) + i * kTile);
}

template <bool hidden>
void multiply(const uint8_t* left, const uint8_t* right, int64_t row_tiles, int64_t column_tiles,
              int64_t depth, bool add, float* c, int64_t stride) {
  HWY_DYNAMIC_DISPATCH(Multiply)
  (left, right, row_tiles, column_tiles, depth, hidden, add, c, stride);
}

void transpose(const float* c, int64_t stride, int64_t rows, int64_t columns, float* y,
               int64_t y_stride) {
  for (int64_t row = 0; row < rows; row += kTile)
    for (int64_t j = 0; j < columns; ++j)
      for (int64_t i = row; i < std::min(rows, row + kTile); ++i)
        y[j * y_stride + i] = c[i * stride + j];
}

double spin(int64_t rounds) { return HWY_DYNAMIC_DISPATCH(Spin)(rounds); }

}  // namespace

const GemmKernels& gemm_kernels_f32() {
  static constexpr GemmKernels kernels = {.name = "f32",
                                          .value_bytes = 4,
                                          .pack_vectors = pack_vectors,
                                          .pack_rows = pack_rows,
                                          .pack_columns = pack_columns,
                                          .pack_hidden_left = pack_hidden,
                                          .pack_hidden_right = pack_hidden,
                                          .multiply = multiply<false>,
                                          .multiply_hidden = multiply<true>,
                                          .transpose = transpose,
                                          .spin = spin,
                                          .begin = [] {},
                                          .end = [] {}};
  return kernels;
}

}  // namespace cajal
#endif
