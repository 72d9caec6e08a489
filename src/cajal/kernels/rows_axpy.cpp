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

/// Adds blocks of any format: y[b][i] += sum over r of a[b][r] * value i of block[r].
template <class Decoder>
struct AddDecoded {
  static constexpr size_t kValues = Decoder::kValues, kBytes = Decoder::kBytes;

  template <int kRows, int kBatch>
  static HWY_INLINE void Add(const uint8_t* const (&block)[kRows], const float (&a)[kBatch][kRows],
                             float* const (&y)[kBatch]) {
    constexpr size_t vectors = kValues / kLanes;
    VF sum[kBatch][vectors];
    for (int b = 0; b < kBatch; ++b)
      for (size_t v = 0; v < vectors; ++v) sum[b][v] = hn::LoadU(df, y[b] + v * kLanes);
    for (int r = 0; r < kRows; ++r)
      Decoder::Decode(block[r], [&](size_t i, VF w) HWY_ATTR {
        for (int b = 0; b < kBatch; ++b)
          sum[b][i / kLanes] = hn::MulAdd(w, hn::Set(df, a[b][r]), sum[b][i / kLanes]);
      });
    for (int b = 0; b < kBatch; ++b)
      for (size_t v = 0; v < vectors; ++v) hn::StoreU(sum[b][v], df, y[b] + v * kLanes);
  }
};

/// Adds kRows rows, read as streams of their own, over `width` columns that begin with a block.
template <class Adder, int kRows, int kBatch>
HWY_INLINE void AxpyTile(const uint8_t* const (&row)[kRows], const uint8_t* const (&next)[kRows],
                         const float (&a)[kBatch][kRows], int64_t width,
                         float* const (&y)[kBatch]) {
  constexpr size_t values = Adder::kValues, bytes = Adder::kBytes;
  constexpr size_t step = std::max<size_t>(1, 128 / bytes);  // blocks between prefetches
  const size_t blocks = width / values, size = blocks * bytes;
  const uint8_t* at[kRows];
  float* to[kBatch];
  for (size_t block = 0; block < blocks; ++block) {
    if (block % step == 0)
      for (int r = 0; r < kRows; ++r)
        PrefetchAhead(row[r], next[r], block * bytes, step * bytes, size);
    for (int r = 0; r < kRows; ++r) at[r] = row[r] + block * bytes;
    for (int b = 0; b < kBatch; ++b) to[b] = y[b] + block * values;
    Adder::Add(at, a, to);
  }
  if (const size_t rest = width % values) {  // only formats whose values stand alone
    HWY_ALIGN uint8_t padded[kRows][bytes] = {};
    HWY_ALIGN float sums[kBatch][values] = {};
    for (int r = 0; r < kRows; ++r) {
      std::memcpy(padded[r], row[r] + size, rest * (bytes / values));
      at[r] = padded[r];
    }
    for (int b = 0; b < kBatch; ++b) {
      std::copy_n(y[b] + blocks * values, rest, sums[b]);
      to[b] = sums[b];
    }
    Adder::Add(at, a, to);
    for (int b = 0; b < kBatch; ++b) std::copy_n(sums[b], rest, y[b] + blocks * values);
  }
}

/// Members [begin, end) of a row set, and the columns [first, first + width) of their rows.
struct AxpyPart {
  const RowMatrix& matrix;
  const RowSet& rows;
  int64_t begin, end, first, width;
};

template <class Adder, int kRows, int kBatch>
HWY_INLINE int64_t AxpyRows(const AxpyPart& part, int64_t i, const float* const (&a)[kBatch],
                            float* const (&y)[kBatch]) {
  const int64_t offset = row_bytes(part.matrix.format, part.first);
  const auto piece = [&](int64_t of) { return part.matrix.row(part.rows[of]) + offset; };
  for (; i + kRows <= part.end; i += kRows) {
    const uint8_t *row[kRows], *next[kRows];
    float of[kBatch][kRows];
    for (int r = 0; r < kRows; ++r) {
      row[r] = piece(i + r);
      next[r] = piece(std::min(i + r + kRows, part.rows.count() - 1));
      for (int b = 0; b < kBatch; ++b) of[b][r] = a[b][i + r];
    }
    AxpyTile<Adder>(row, next, of, part.width, y);
  }
  return i;
}

/// y[b, part.first + i] += the sum of column i; a [batch, rows], y [batch, matrix.width].
template <class Adder, int kMostBatch>
HWY_INLINE void AddColumns(const AxpyPart& part, const float* a, int64_t batch, float* y) {
  std::vector<float> unwanted;
  ForBatches<kMostBatch>(batch, [&](auto size, int64_t first, int64_t count) HWY_ATTR {
    constexpr int kBatch = size;
    const float* of[kBatch];
    float* to[kBatch];
    if (count < kBatch) unwanted.resize(part.width);
    for (int64_t b = 0; b < kBatch; ++b) {  // what is left over repeats the last vector
      of[b] = a + (first + std::min(b, count - 1)) * part.rows.count();
      to[b] = b < count ? y + (first + b) * part.matrix.width + part.first : unwanted.data();
    }
    const int64_t done = AxpyRows<Adder, StreamsFor(kBatch)>(part, part.begin, of, to);
    AxpyRows<Adder, 1>(part, done, of, to);
  });
}

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
  static constexpr size_t kValues = 128, kBytes = 72;

  template <int kRows, int kBatch>
  static HWY_INLINE void Add(const uint8_t* const (&block)[kRows], const float (&a)[kBatch][kRows],
                             float* const (&y)[kBatch]) {
    const __m512 table = _mm512_set_ps(7, 6, 5, 4, 3, 2, 1, 0, -1, -2, -3, -4, -5, -6, -7, -8);
    const __m512i words =
        _mm512_set_epi64(0, 0, 0, 0, 0x001b001b001b001b, 0x0012001200120012, 0x0009000900090009, 0);
    __m512 sum[kBatch][8];
    for (int b = 0; b < kBatch; ++b)
      for (int v = 0; v < 8; ++v) sum[b][v] = _mm512_loadu_ps(y[b] + 16 * v);
    for (int r = 0; r < kRows; ++r) {
      const auto quarter = [&](int k) HWY_ATTR {
        return _mm_loadu_si128(reinterpret_cast<const __m128i*>(block[r] + 18 * k + 2));
      };
      __m512i nibbles = _mm512_castsi128_si512(quarter(0));
      nibbles = _mm512_mask_broadcast_i32x4(nibbles, 0x00f0, quarter(1));
      nibbles = _mm512_mask_broadcast_i32x4(nibbles, 0x0f00, quarter(2));
      nibbles = _mm512_mask_broadcast_i32x4(nibbles, 0xf000, quarter(3));
      const __m512 scale = _mm512_cvtph_ps(
          _mm512_castsi512_si256(_mm512_permutexvar_epi16(words, _mm512_loadu_si512(block[r]))));
      __m512 weight[kBatch];
      for (int b = 0; b < kBatch; ++b) weight[b] = _mm512_mul_ps(scale, _mm512_set1_ps(a[b][r]));
      for (int v = 0; v < 8; ++v) {
        // Only the low four bits of a lane choose from the table.
        const __m512 value = _mm512_permutexvar_ps(_mm512_srli_epi32(nibbles, 4 * v), table);
        for (int b = 0; b < kBatch; ++b) sum[b][v] = _mm512_fmadd_ps(value, weight[b], sum[b][v]);
      }
    }
    for (int b = 0; b < kBatch; ++b)
      for (int v = 0; v < 8; ++v) _mm512_storeu_ps(y[b] + 16 * v, sum[b][v]);
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

/// sums [batch, width] = the sum over members [begin, end), in the order in which it is computed.
void AxpyChunk(const RowMatrix& matrix, const RowSet& rows, int64_t begin, int64_t end,
               const float* a, int64_t batch, float* sums) {
  std::fill_n(sums, batch * matrix.width, 0.0f);
  const int64_t wide = WideColumns(matrix);
  if (wide > 0) AddColumns<AddWide, 2>({matrix, rows, begin, end, 0, wide}, a, batch, sums);
  if (wide == matrix.width) return;
  WithDecoder(matrix.format, [&](auto decoder) HWY_ATTR {
    AddColumns<AddDecoded<decltype(decoder)>, 8>(
        {matrix, rows, begin, end, wide, matrix.width - wide}, a, batch, sums);
  });
}

/// y[b, c] += the sum over chunks of sums[chunk, b, c] for columns c in [begin, end), which are
/// whole groups of 128 or end the row.
void AxpyFinish(const RowMatrix& matrix, const float* sums, int64_t chunks, int64_t batch,
                int64_t begin, int64_t end, float* y) {
  const int64_t wide = WideColumns(matrix);
  for (int64_t b = 0; b < batch; ++b) {
    for (int64_t c = begin; c < end; c += 128) {
      const int64_t count = std::min<int64_t>(128, end - c);
      float total[128] = {};
      for (int64_t chunk = 0; chunk < chunks; ++chunk) {
        const float* of = sums + (chunk * batch + b) * matrix.width + c;
        for (int64_t i = 0; i < count; ++i) total[i] += of[i];
      }
      float* const to = y + b * matrix.width + c;
      for (int64_t i = 0; i < count; ++i) to[c < wide ? WideColumn(i) : i] += total[i];
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace cajal
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cajal {

HWY_EXPORT(AxpyChunk);
HWY_EXPORT(AxpyFinish);

namespace {

/// Into how many chunks a sum is cut: runs of the matrix's row numbers. It depends on the matrix
/// alone, so that the order of additions is that of any thread count and of any choice of rows.
int64_t chunks_of(const RowMatrix& matrix) {
  constexpr int64_t chunk_bytes = 256 << 10, most = 8;
  const int64_t bytes = matrix.rows * row_bytes(matrix.format, matrix.width);
  return bytes <= chunk_bytes ? 1 : std::min(most, (bytes / chunk_bytes + 3) / 4 * 4);
}

/// How many members of an ascending set are below a row number.
int64_t members_below(const RowSet& rows, int64_t row) {
  int64_t low = 0, high = rows.count();
  while (low < high) {
    const int64_t middle = (low + high) / 2;
    if (rows[middle] < row)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

bool ascends(const RowSet& rows) {
  for (int64_t i = 1; i < rows.count(); ++i)
    if (rows[i] <= rows[i - 1]) return false;
  return true;
}

}  // namespace

void gather_axpy(const RowMatrix& matrix, const RowSet& rows, const float* a, int64_t batch,
                 float* y, ThreadPool& threads) {
  if (rows.count() == 0) return;
  const int64_t chunks = chunks_of(matrix);
  const bool by_number = ascends(rows);  // else any order does
  const auto begin_of = [&](int64_t chunk) {
    return by_number ? members_below(rows, matrix.rows * chunk / chunks)
                     : rows.count() * chunk / chunks;
  };
  static thread_local std::vector<float> kept;  // fresh pages would cost more than the sums
  kept.resize(std::max<size_t>(kept.size(), chunks * batch * matrix.width));
  float* const sums = kept.data();
  threads.parallel_for(chunks, 1, [&](int64_t first, int64_t last) {
    for (int64_t chunk = first; chunk < last; ++chunk) HWY_DYNAMIC_DISPATCH(AxpyChunk)
    (matrix, rows, begin_of(chunk), begin_of(chunk + 1), a, batch,
     sums + chunk * batch * matrix.width);
  });
  threads.parallel_for(matrix.width, 128, [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(AxpyFinish)(matrix, sums, chunks, batch, begin, end, y);
  });
}

}  // namespace cajal
#endif
