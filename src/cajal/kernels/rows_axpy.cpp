#include <algorithm>
#include <vector>

#include "cajal/kernels/rows.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cajal/kernels/rows_axpy.cpp"
#include "cajal/kernels/simd_targets.h"
// After the choice of targets.
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "cajal/kernels/decode-inl.h"
#include "cajal/kernels/streams-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cajal {
namespace HWY_NAMESPACE {

/// Rows that are added up while their sums stay in registers; the next ones are asked for
/// meanwhile.
constexpr int kTile = 16;

/// Pieces of up to kTile rows and what each is multiplied with.
template <int kBatch>
struct RowTile {
  int count, next_count;
  const uint8_t *row[kTile], *next[kTile];
  float a[kTile][kBatch];
};

/// What the rows of a tile are multiplied with, for an adder that needs no more than that.
template <int kBatch>
struct PlainFactors {
  HWY_INLINE PlainFactors(const RowTile<kBatch>& tile, int64_t) : a(tile.a) {}
  const float (&a)[kTile][kBatch];
};

// An adder has kValues, kBytes and kVectors of its block, Factors<kBlocks, kBatch>, made of a tile
// and where its blocks begin, and Add, which adds block k of row r to the sums of its columns.

/// Blocks of any format.
template <class Decoder>
struct AddDecoded {
  static constexpr int kValues = Decoder::kValues, kBytes = Decoder::kBytes;
  static constexpr int kVectors = kValues / kLanes;
  template <int kBlocks, int kBatch>
  using Factors = PlainFactors<kBatch>;

  template <class Factors, int kBatch>
  static HWY_INLINE void Add(const uint8_t* block, const Factors& factors, int r, int,
                             VF (&sum)[kBatch][kVectors]) {
    Decoder::Decode(block, [&](size_t i, VF w) HWY_ATTR {
      for (int b = 0; b < kBatch; ++b)
        sum[b][i / kLanes] = hn::MulAdd(w, hn::Set(df, factors.a[r][b]), sum[b][i / kLanes]);
    });
  }
};

/// q8_0, the scales of many blocks converted at once.
struct AddQ8_0 {
  static constexpr int kValues = 32, kBytes = 34, kVectors = kValues / kLanes;

  template <int kBlocks, int kBatch>
  struct Factors {
    static constexpr int kScales = (kBlocks + kLanes - 1) / kLanes * kLanes;
    HWY_ALIGN float a[kTile][kBatch][kScales];  // times the scale

    HWY_INLINE Factors(const RowTile<kBatch>& tile, int64_t offset) {
      HWY_ALIGN uint16_t halves[kTile][kScales] = {};
      for (int r = 0; r < tile.count; ++r)
        for (int k = 0; k < kBlocks; ++k)
          halves[r][k] = Load<uint16_t>(tile.row[r] + offset + k * kBytes);
      const hn::Rebind<hwy::float16_t, DF> dh;
      for (int r = 0; r < tile.count; ++r)
        for (int k = 0; k < kScales; k += kLanes) {
          const auto scale = hn::PromoteTo(df, hn::BitCast(dh, hn::LoadU(DU16(), halves[r] + k)));
          for (int b = 0; b < kBatch; ++b)
            hn::StoreU(hn::Mul(scale, hn::Set(df, tile.a[r][b])), df, a[r][b] + k);
        }
    }
  };

  template <class Factors, int kBatch>
  static HWY_INLINE void Add(const uint8_t* block, const Factors& factors, int r, int k,
                             VF (&sum)[kBatch][kVectors]) {
    for (int v = 0; v < kVectors; ++v) {
      const auto code = hn::ConvertTo(df, LoadSignedBytes(block + 2 + v * kLanes));
      for (int b = 0; b < kBatch; ++b)
        sum[b][v] = hn::MulAdd(code, hn::Set(df, factors.a[r][b][k]), sum[b][v]);
    }
  }
};

template <class Decoder>
struct AdderOf {
  using Type = AddDecoded<Decoder>;
};
template <>
struct AdderOf<DecodeQ8_0> {
  using Type = AddQ8_0;
};

/// The column, in a group of 128, of the sum that AddWideQ4_0 keeps at place i.
constexpr int64_t WideColumn(int64_t i) {
  const int64_t v = i / 16, lane = i % 16;
  return lane / 4 * 32 + v % 2 * 16 + lane % 4 * 4 + v / 2;
}

#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL

/// Adds four blocks of q4_0 with a table of the sixteen values: lane l of the 64 bytes of nibbles
/// holds eight of them, shifted down in turn. Lane l of sum v is that of column
/// WideColumn(16 v + l).
struct AddWideQ4_0 {
  static constexpr int kValues = 128, kBytes = 72, kVectors = 8;
  template <int kBlocks, int kBatch>
  using Factors = PlainFactors<kBatch>;

  template <class Factors, int kBatch>
  static HWY_INLINE void Add(const uint8_t* block, const Factors& factors, int r, int,
                             VF (&sum)[kBatch][kVectors]) {
    const __m512 table = _mm512_set_ps(7, 6, 5, 4, 3, 2, 1, 0, -1, -2, -3, -4, -5, -6, -7, -8);
    const __m512i words =
        _mm512_set_epi64(0, 0, 0, 0, 0x001b001b001b001b, 0x0012001200120012, 0x0009000900090009, 0);
    const auto quarter = [&](int k) HWY_ATTR {
      return _mm_loadu_si128(reinterpret_cast<const __m128i*>(block + 18 * k + 2));
    };
    __m512i nibbles = _mm512_castsi128_si512(quarter(0));
    nibbles = _mm512_mask_broadcast_i32x4(nibbles, 0x00f0, quarter(1));
    nibbles = _mm512_mask_broadcast_i32x4(nibbles, 0x0f00, quarter(2));
    nibbles = _mm512_mask_broadcast_i32x4(nibbles, 0xf000, quarter(3));
    const __m512 scale = _mm512_cvtph_ps(
        _mm512_castsi512_si256(_mm512_permutexvar_epi16(words, _mm512_loadu_si512(block))));
    __m512 weight[kBatch];
    for (int b = 0; b < kBatch; ++b)
      weight[b] = _mm512_mul_ps(scale, _mm512_set1_ps(factors.a[r][b]));
    for (int v = 0; v < kVectors; ++v) {
      // Only the low four bits of a lane choose from the table.
      const __m512 value = _mm512_permutexvar_ps(_mm512_srli_epi32(nibbles, 4 * v), table);
      for (int b = 0; b < kBatch; ++b)
        sum[b][v].raw = _mm512_fmadd_ps(value, weight[b], sum[b][v].raw);
    }
  }
};

using AddWide = AddWideQ4_0;
constexpr bool kHasWide = true;
#else
using AddWide = AddDecoded<DecodeSymmetric32<false> >;
constexpr bool kHasWide = false;
#endif

/// How many columns have their sums in the order of AddWideQ4_0.
HWY_INLINE int64_t WideColumns(const RowMatrix& matrix) {
  return kHasWide && matrix.format == Format::q4_0 ? matrix.width / 128 * 128 : 0;
}

/// Columns [column, column + kBlocks blocks) of a tile's rows; `offset` is where they begin.
template <class Adder, int kBlocks, int kBatch>
HWY_INLINE void AddBlocks(const RowTile<kBatch>& tile, int64_t offset, int64_t column,
                          float* const (&sums)[kBatch]) {
  constexpr int kVectors = Adder::kVectors, kBytes = Adder::kBytes;
  const typename Adder::template Factors<kBlocks, kBatch> factors(tile, offset);
  VF sum[kBlocks][kBatch][kVectors];
  const auto place = [&](int k, int b, int v)
                         HWY_ATTR { return sums[b] + column + k * Adder::kValues + v * kLanes; };
  for (int k = 0; k < kBlocks; ++k)
    for (int b = 0; b < kBatch; ++b)
      for (int v = 0; v < kVectors; ++v) sum[k][b][v] = hn::LoadU(df, place(k, b, v));
  for (int r = 0; r < tile.count; ++r) {
    if (r < tile.next_count)
      for (int at = 0; at < kBlocks * kBytes; at += 64)
        __builtin_prefetch(tile.next[r] + offset + at, 0, 2);
    const uint8_t* const from = tile.row[r] + offset;
    for (int k = 0; k < kBlocks; ++k) Adder::Add(from + k * kBytes, factors, r, k, sum[k]);
  }
  for (int k = 0; k < kBlocks; ++k)
    for (int b = 0; b < kBatch; ++b)
      for (int v = 0; v < kVectors; ++v) hn::StoreU(sum[k][b][v], df, place(k, b, v));
}

/// Columns [begin, end) of a set of rows; they begin with a block.
struct AxpyPart {
  const RowMatrix& matrix;
  const RowSet& rows;
  int64_t begin, end;
};

template <class Adder, int kBatch>
HWY_INLINE void AddTile(const RowTile<kBatch>& tile, int64_t width, float* const (&sums)[kBatch]) {
  constexpr int kMost = std::max(1, (kLanes == 16 ? 24 : 12) / (Adder::kVectors * kBatch));
  constexpr int kSome = std::max(1, kMost / 3), kValues = Adder::kValues, kBytes = Adder::kBytes;
  const int64_t blocks = width / kValues;
  int64_t k = 0;
  for (; k + kMost <= blocks; k += kMost)
    AddBlocks<Adder, kMost>(tile, k * kBytes, k * kValues, sums);
  if constexpr (kSome < kMost)
    for (; k + kSome <= blocks; k += kSome)
      AddBlocks<Adder, kSome>(tile, k * kBytes, k * kValues, sums);
  if constexpr (kSome > 1)
    for (; k < blocks; ++k) AddBlocks<Adder, 1>(tile, k * kBytes, k * kValues, sums);
  if (const int64_t rest = width % kValues) {  // only formats whose values stand alone
    HWY_ALIGN uint8_t padded[kTile][kBytes] = {};
    RowTile<kBatch> last = tile;
    last.next_count = 0;
    for (int r = 0; r < tile.count; ++r) {
      std::memcpy(padded[r], tile.row[r] + blocks * kBytes, rest * (kBytes / kValues));
      last.row[r] = padded[r];
    }
    HWY_ALIGN float some[kBatch][kValues] = {};
    float* to[kBatch];
    for (int b = 0; b < kBatch; ++b) {
      std::copy_n(sums[b] + blocks * kValues, rest, some[b]);
      to[b] = some[b];
    }
    AddBlocks<Adder, 1>(last, 0, 0, to);
    for (int b = 0; b < kBatch; ++b) std::copy_n(some[b], rest, sums[b] + blocks * kValues);
  }
}

/// sums [batch, stride] += the sums of the part's columns; a [batch, rows].
template <class Adder, int kMostBatch>
HWY_INLINE void AddColumns(const AxpyPart& part, const float* a, int64_t batch, float* sums,
                           int64_t stride) {
  const int64_t rows = part.rows.count(), width = part.end - part.begin;
  const int64_t offset = row_bytes(part.matrix.format, part.begin);
  const auto piece = [&](int64_t i) { return part.matrix.row(part.rows[i]) + offset; };
  const int64_t bytes = row_bytes(part.matrix.format, width);
  for (int64_t i = 0; i < std::min<int64_t>(kTile, rows); ++i)
    for (int64_t at = 0; at < bytes; at += 64) __builtin_prefetch(piece(i) + at, 0, 2);
  std::vector<float> unwanted;
  ForBatches<kMostBatch>(batch, [&](auto size, int64_t first, int64_t count) HWY_ATTR {
    constexpr int kBatch = size;
    float* to[kBatch];
    if (count < kBatch) unwanted.resize(width);
    for (int64_t b = 0; b < kBatch; ++b)  // what is left over repeats the last vector
      to[b] = b < count ? sums + (first + b) * stride : unwanted.data();
    RowTile<kBatch> tile;
    for (int64_t from = 0; from < rows; from += kTile) {
      tile.count = static_cast<int>(std::min<int64_t>(kTile, rows - from));
      tile.next_count = static_cast<int>(std::clamp<int64_t>(rows - from - kTile, 0, tile.count));
      for (int r = 0; r < tile.count; ++r) {
        tile.row[r] = piece(from + r);
        for (int64_t b = 0; b < kBatch; ++b)
          tile.a[r][b] = a[(first + std::min(b, count - 1)) * rows + from + r];
      }
      for (int r = 0; r < tile.next_count; ++r) tile.next[r] = piece(from + kTile + r);
      AddTile<Adder>(tile, width, to);
    }
  });
}

/// y[b, c] += the sum over all rows, for columns c in [begin, end), which begin with a block.
void AxpyColumns(const RowMatrix& matrix, const RowSet& rows, int64_t begin, int64_t end,
                 const float* a, int64_t batch, float* y) {
  static thread_local std::vector<float> kept;  // fresh pages would cost more than the sums
  const int64_t width = end - begin;
  const int64_t wide = std::clamp<int64_t>(WideColumns(matrix) - begin, 0, width);
  kept.assign(batch * width, 0.0f);
  if (wide > 0)
    AddColumns<AddWide, 2>({matrix, rows, begin, begin + wide}, a, batch, kept.data(), width);
  if (wide < width)
    WithDecoder(matrix.format, [&](auto decoder) HWY_ATTR {
      AddColumns<typename AdderOf<decltype(decoder)>::Type, 8>({matrix, rows, begin + wide, end}, a,
                                                               batch, kept.data() + wide, width);
    });
  for (int64_t b = 0; b < batch; ++b) {
    const float* const from = kept.data() + b * width;
    float* const to = y + b * matrix.width + begin;
    for (int64_t c = 0; c < wide; ++c) to[c / 128 * 128 + WideColumn(c % 128)] += from[c];
    for (int64_t c = wide; c < width; ++c) to[c] += from[c];
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace cajal
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cajal {

HWY_EXPORT(AxpyColumns);

void gather_axpy(const RowMatrix& matrix, const RowSet& rows, const float* a, int64_t batch,
                 float* y, ThreadPool& threads) {
  if (rows.count() == 0 || batch == 0) return;
  // Threads share out the columns, so that each sum is added up in the order of the rows.
  const int64_t block =
      std::max(matrix.format == Format::q4_0 ? 128 : 32, block_values(matrix.format));
  const int64_t each = (matrix.width + threads.size() - 1) / threads.size();
  threads.parallel_for(matrix.width, (each + block - 1) / block * block,
                       [&](int64_t begin, int64_t end) {
                         HWY_DYNAMIC_DISPATCH(AxpyColumns)(matrix, rows, begin, end, a, batch, y);
                       });
}

}  // namespace cajal
#endif
