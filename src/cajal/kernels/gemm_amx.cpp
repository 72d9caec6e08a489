// Products on AMX, whose instruction multiplies 16 rows by 16 columns over 32 values of bf16. A
// left tile is 16 rows of 64 bytes; a right tile holds, for each pair of k, the pairs of its 16
// columns. Intrinsics by hand: Highway has no tiles.
#include "cajal/kernels/gemm_kernels.h"

#if defined(__x86_64__) && defined(__linux__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // in gcc 12's own intrinsics
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "cajal/core/machine.h"

#define CAJAL_AMX                                                                 \
  __attribute__((                                                                 \
      target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,avx512vbmi,fma,f16c," \
             "amx-tile,amx-bf16")))

namespace cajal {
namespace {

constexpr int64_t kStep = 32;  // values of k in a tile
constexpr int64_t kTileBytes = 1024;

/// Asks Linux for the tiles' state, which programs get only on request.
bool tiles_granted() {
  constexpr int request_permission = 0x1023, tile_data = 18;  // ARCH_REQ_XCOMP_PERM, XTILEDATA
  return ::syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
}

// Static: gcc 12 believes that loading it reads 8 bytes, and would not write a local one.
alignas(64) constexpr struct {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
} tile_shapes;

CAJAL_AMX void begin() { _tile_loadconfig(&tile_shapes); }
CAJAL_AMX void end() { _tile_release(); }

CAJAL_AMX inline __m512i to_bf16(__m512 low, __m512 high) {
  return reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(high, low));
}

/// Transposes 16 x 16 words of 32 bits.
CAJAL_AMX inline void transpose_words(__m512i (&r)[16]) {
  __m512i t[16];
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
  }
  for (int i = 0; i < 16; i += 4) {
    r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
    r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
    r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
    r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
  for (int i = 0; i < 4; ++i) {
    t[i] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88);
    t[i + 4] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xdd);
    t[i + 8] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88);
    t[i + 12] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xdd);
  }
  for (int i = 0; i < 4; ++i) {
    r[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
    r[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
    r[i + 4] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0x88);
    r[i + 12] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0xdd);
  }
}

CAJAL_AMX void pack_vectors(const float* const x[kTile], int64_t k, int64_t width, int64_t depth,
                            uint8_t* tile) {
  for (int64_t step = 0; step < depth; step += kStep, tile += kTileBytes) {
    const int64_t left = width - k - step;
    const uint32_t there = left >= kStep ? ~0u : left <= 0 ? 0 : (1u << left) - 1;
    const auto low = static_cast<__mmask16>(there), high = static_cast<__mmask16>(there >> 16);
    __m512i r[16];
    for (int t = 0; t < 16; ++t) {
      if (!x[t]) {
        r[t] = _mm512_setzero_si512();
        continue;
      }
      const float* const of = x[t] + k + step;
      r[t] = to_bf16(_mm512_maskz_loadu_ps(low, of), _mm512_maskz_loadu_ps(high, of + 16));
    }
    transpose_words(r);
    for (int i = 0; i < 16; ++i) _mm512_store_si512(tile + 64 * i, r[i]);
  }
}

CAJAL_AMX inline __m512 half_at(const uint8_t* at) {
  uint16_t half;
  std::memcpy(&half, at, sizeof half);
  return _mm512_set1_ps(_mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(half))));
}

/// 32 values of q8_0 as bf16.
CAJAL_AMX inline __m512i block_q8_0(const uint8_t* block) {
  const __m512 scale = half_at(block);
  const auto* const codes = reinterpret_cast<const __m128i*>(block + 2);
  const __m512i low = _mm512_cvtepi8_epi32(_mm_loadu_si128(codes));
  const __m512i high = _mm512_cvtepi8_epi32(_mm_loadu_si128(codes + 1));
  return to_bf16(_mm512_mul_ps(_mm512_cvtepi32_ps(low), scale),
                 _mm512_mul_ps(_mm512_cvtepi32_ps(high), scale));
}

/// 32 values of q4_0: the sixteen that the block can have, chosen by its codes.
CAJAL_AMX inline __m512i block_q4_0(const uint8_t* block) {
  const __m512 codes = _mm512_set_ps(7, 6, 5, 4, 3, 2, 1, 0, -1, -2, -3, -4, -5, -6, -7, -8);
  const __m512 values = _mm512_mul_ps(codes, half_at(block));
  const __m256i nibbles =
      _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(block + 2)));
  const __m512i chosen =
      _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_and_si256(nibbles, _mm256_set1_epi16(15))),
                         _mm256_srli_epi16(nibbles, 4), 1);
  return _mm512_permutexvar_epi16(chosen, to_bf16(values, values));
}

/// `depth` values of a stored row as bf16, 32 every `step` bytes; of those `count` are there.
CAJAL_AMX void pack_row(Format format, const uint8_t* row, int64_t k, int64_t count, int64_t depth,
                        uint8_t* out, int64_t step) {
  if (format == Format::bf16 && count == depth) {
    for (int64_t i = 0; i < depth; i += kStep, out += step)
      _mm512_store_si512(out, _mm512_loadu_si512(row + 2 * (k + i)));
  } else if (format == Format::q8_0) {
    const uint8_t* block = row + row_bytes(format, k);
    for (int64_t i = 0; i < depth; i += kStep, out += step, block += 34)
      _mm512_store_si512(out, block_q8_0(block));
  } else if (format == Format::q4_0) {
    const uint8_t* block = row + row_bytes(format, k);
    for (int64_t i = 0; i < depth; i += kStep, out += step, block += 18)
      _mm512_store_si512(out, block_q4_0(block));
  } else {
    alignas(64) float values[kDepth];
    decode_columns(format, row, k, count, values);
    for (int64_t i = 0; i < depth; i += kStep, out += step)
      _mm512_store_si512(out, to_bf16(_mm512_load_ps(values + i), _mm512_load_ps(values + i + 16)));
  }
}

/// Asks for the next block's piece of a row: pieces are too short for the processor to foresee.
inline void prefetch(const RowSlice& rows, int64_t i, int64_t k) {
  const RowMatrix& matrix = rows.matrix;
  if (k >= matrix.width) return;
  const int64_t begin = row_bytes(matrix.format, k);
  const int64_t end = row_bytes(matrix.format, std::min(matrix.width, k + kDepth));
  for (int64_t at = begin; at < end; at += 64) __builtin_prefetch(rows.row(i) + at, 0, 2);
}

CAJAL_AMX void pack_rows(const RowSlice& rows, int64_t k, int64_t depth, uint8_t* left) {
  const int64_t count = std::min(depth, rows.matrix.width - k);
  const int64_t padded = round_up(rows.count, kTile), tile_bytes = depth / kStep * kTileBytes;
  for (int64_t i = 0; i < padded; ++i) {
    uint8_t* const out = left + i / kTile * tile_bytes + i % kTile * 64;
    if (i < rows.count) {
      prefetch(rows, i, k + depth);
      pack_row(rows.matrix.format, rows.row(i), k, count, depth, out, kTileBytes);
    } else {
      for (int64_t step = 0; step < depth / kStep; ++step)
        _mm512_store_si512(out + step * kTileBytes, _mm512_setzero_si512());
    }
  }
}

/// Two vectors of 16 as 16 pairs of bf16.
CAJAL_AMX inline __m512i pairs(__m512 even, __m512 odd) {
  const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24,
                                         8, 23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  return _mm512_permutexvar_epi16(order, to_bf16(even, odd));
}

CAJAL_AMX void pack_columns(const RowSlice& rows, int64_t first, int64_t count, int64_t depth,
                            uint8_t* right) {
  alignas(64) uint8_t row[2][2 * kPanel];
  const RowMatrix& matrix = rows.matrix;
  const int64_t tile_bytes = depth / kStep * kTileBytes, padded = round_up(count, kStep);
  const int64_t begin = row_bytes(matrix.format, first);
  const int64_t end = row_bytes(matrix.format, first + count);
  const __m512i low = _mm512_set_epi16(47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40, 8,
                                       39, 7, 38, 6, 37, 5, 36, 4, 35, 3, 34, 2, 33, 1, 32, 0);
  const __m512i high = _mm512_add_epi16(low, _mm512_set1_epi16(16));
  for (int64_t i = 0; i < depth; i += 2) {
    for (int64_t j = 0; j < 2; ++j) {
      if (i + j >= rows.count) {
        std::memset(row[j], 0, sizeof row[j]);
        continue;
      }
      // Pieces of rows far from each other, which the processor does not foresee.
      if (constexpr int64_t ahead = 12; i + j + ahead < rows.count)
        for (int64_t at = begin; at < end; at += 64)
          __builtin_prefetch(rows.row(i + j + ahead) + at);
      pack_row(matrix.format, rows.row(i + j), first, count, padded, row[j], 64);
    }
    uint8_t* out = right + i / kStep * kTileBytes + i % kStep / 2 * 64;
    for (int64_t column = 0; column < count; column += kStep, out += 2 * tile_bytes) {
      const __m512i even = _mm512_load_si512(row[0] + 2 * column);
      const __m512i odd = _mm512_load_si512(row[1] + 2 * column);
      _mm512_store_si512(out, _mm512_permutex2var_epi16(even, low, odd));
      if (column + kTile < count)
        _mm512_store_si512(out + tile_bytes, _mm512_permutex2var_epi16(even, high, odd));
    }
  }
}

template <bool as_left>
CAJAL_AMX void pack_hidden(const float* c, int64_t stride, int64_t depth, int64_t tiles,
                           int64_t tile_bytes, uint8_t* out) {
  for (int64_t tile = 0; tile < tiles; ++tile) {
    for (int64_t k = 0; k < depth; k += kStep) {
      const float* const of = c + k * stride + tile * kTile;
      uint8_t* const to = out + tile * tile_bytes + k / kStep * kTileBytes;
      __m512i r[16];
      for (int i = 0; i < 16; ++i)
        r[i] =
            pairs(_mm512_loadu_ps(of + 2 * i * stride), _mm512_loadu_ps(of + (2 * i + 1) * stride));
      if constexpr (as_left) transpose_words(r);
      for (int i = 0; i < 16; ++i) _mm512_store_si512(to + 64 * i, r[i]);
    }
  }
}

/// 1 or 2 tiles of rows by 1 or 2 of columns; operands' tiles are `tile_bytes` apart.
template <int kRows, int kColumns>
CAJAL_AMX inline void multiply_tiles(const uint8_t* left, const uint8_t* right, int64_t tile_bytes,
                                     bool add, float* c, int64_t stride) {
  const int64_t bytes = stride * static_cast<int64_t>(sizeof(float));
  float* const below = c + kTile * stride;
  if (add) {
    _tile_loadd(0, c, bytes);
    if constexpr (kColumns == 2) _tile_loadd(1, c + kTile, bytes);
    if constexpr (kRows == 2) _tile_loadd(2, below, bytes);
    if constexpr (kRows == 2 && kColumns == 2) _tile_loadd(3, below + kTile, bytes);
  } else {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
  for (int64_t k = 0; k < tile_bytes; k += kTileBytes) {
    _tile_loadd(4, left + k, 64);
    _tile_loadd(6, right + k, 64);
    _tile_dpbf16ps(0, 4, 6);
    if constexpr (kColumns == 2) {
      _tile_loadd(7, right + tile_bytes + k, 64);
      _tile_dpbf16ps(1, 4, 7);
    }
    if constexpr (kRows == 2) {
      _tile_loadd(5, left + tile_bytes + k, 64);
      _tile_dpbf16ps(2, 5, 6);
    }
    if constexpr (kRows == 2 && kColumns == 2) _tile_dpbf16ps(3, 5, 7);
  }
  _tile_stored(0, c, bytes);
  if constexpr (kColumns == 2) _tile_stored(1, c + kTile, bytes);
  if constexpr (kRows == 2) _tile_stored(2, below, bytes);
  if constexpr (kRows == 2 && kColumns == 2) _tile_stored(3, below + kTile, bytes);
}

template <int kRows>
CAJAL_AMX inline void multiply_row(const uint8_t* left, const uint8_t* right, int64_t column_tiles,
                                   int64_t tile_bytes, bool add, float* c, int64_t stride) {
  int64_t column = 0;
  for (; column + 2 <= column_tiles; column += 2)
    multiply_tiles<kRows, 2>(left, right + column * tile_bytes, tile_bytes, add, c + column * kTile,
                             stride);
  if (column < column_tiles)
    multiply_tiles<kRows, 1>(left, right + column * tile_bytes, tile_bytes, add, c + column * kTile,
                             stride);
}

CAJAL_AMX void multiply(const uint8_t* left, const uint8_t* right, int64_t row_tiles,
                        int64_t column_tiles, int64_t depth, bool add, float* c, int64_t stride) {
  const int64_t tile_bytes = depth / kStep * kTileBytes;
  int64_t row = 0;
  for (; row + 2 <= row_tiles; row += 2)
    multiply_row<2>(left + row * tile_bytes, right, column_tiles, tile_bytes, add,
                    c + row * kTile * stride, stride);
  if (row < row_tiles)
    multiply_row<1>(left + row * tile_bytes, right, column_tiles, tile_bytes, add,
                    c + row * kTile * stride, stride);
}

// Along the rows of y first: its cache lines are far apart otherwise.
CAJAL_AMX void transpose(const float* c, int64_t stride, int64_t rows, int64_t columns, float* y,
                         int64_t y_stride) {
  for (int64_t j = 0; j < columns; j += kTile) {
    for (int64_t i = 0; i < rows; i += kTile) {
      const auto there = static_cast<__mmask16>((1u << std::min(kTile, rows - i)) - 1);
      __m512i r[16];
      for (int of = 0; of < 16; ++of) r[of] = _mm512_loadu_si512(c + (i + of) * stride + j);
      transpose_words(r);
      for (int64_t of = 0; of < std::min(kTile, columns - j); ++of)
        _mm512_mask_storeu_epi32(y + (j + of) * y_stride + i, there, r[of]);
    }
  }
}

CAJAL_AMX double spin(int64_t rounds) {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  _tile_zero(4);
  _tile_zero(5);
  _tile_zero(6);
  _tile_zero(7);
  for (int64_t i = 0; i < rounds; ++i) {
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  return static_cast<double>(rounds * 4 * 2 * kTile * kTile * kStep);
}

}  // namespace

const GemmKernels* gemm_kernels_amx() {
  static constexpr GemmKernels kernels = {.name = "amx_bf16",
                                          .value_bytes = 2,
                                          .pack_vectors = pack_vectors,
                                          .pack_rows = pack_rows,
                                          .pack_columns = pack_columns,
                                          .pack_hidden_left = pack_hidden<true>,
                                          .pack_hidden_right = pack_hidden<false>,
                                          .multiply = multiply,
                                          .multiply_hidden = multiply,
                                          .transpose = transpose,
                                          .spin = spin,
                                          .begin = begin,
                                          .end = end};
  static const bool usable = [] {
    const auto simd = this_machine().simd;
    const auto has = [&](const char* name) {
      return std::find(simd.begin(), simd.end(), name) != simd.end();
    };
    return has("amx_bf16") && has("avx512_bf16") && has("avx512bw") && tiles_granted();
  }();
  return usable ? &kernels : nullptr;
}

}  // namespace cajal
#else
namespace cajal {
const GemmKernels* gemm_kernels_amx() { return nullptr; }
}  // namespace cajal
#endif
