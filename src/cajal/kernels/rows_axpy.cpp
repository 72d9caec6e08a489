#include <algorithm>

#include "cajal/kernels/rows.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cajal/kernels/rows_axpy.cpp"
#include "cajal/kernels/simd_targets.h"
// After the choice of targets.
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "cajal/kernels/decode-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cajal {
namespace HWY_NAMESPACE {

/// y[b][column ..] += sum over r of a[b][r] * row[r], for kRows rows read as streams of their own,
/// over `width` columns that begin with a block.
template <class Decoder, int kRows, int kBatch>
HWY_INLINE void AxpyTile(const uint8_t* const (&row)[kRows], const uint8_t* const (&next)[kRows],
                         const float (&a)[kBatch][kRows], int64_t width,
                         float* const (&y)[kBatch]) {
  constexpr size_t values = Decoder::kValues, bytes = Decoder::kBytes, vectors = values / kLanes;
  constexpr size_t step = std::max<size_t>(1, 128 / bytes);  // blocks between prefetches
  VF weight[kBatch][kRows];
  for (int b = 0; b < kBatch; ++b)
    for (int r = 0; r < kRows; ++r) weight[b][r] = hn::Set(df, a[b][r]);

  const auto add_block = [&](const uint8_t* const(&block)[kRows],
                             float* const(&to)[kBatch]) HWY_ATTR {
    VF sum[kBatch][vectors];
    for (int b = 0; b < kBatch; ++b)
      for (size_t v = 0; v < vectors; ++v) sum[b][v] = hn::LoadU(df, to[b] + v * kLanes);
    for (int r = 0; r < kRows; ++r)
      Decoder::Decode(block[r], [&](size_t i, VF w) HWY_ATTR {
        for (int b = 0; b < kBatch; ++b)
          sum[b][i / kLanes] = hn::MulAdd(w, weight[b][r], sum[b][i / kLanes]);
      });
    for (int b = 0; b < kBatch; ++b)
      for (size_t v = 0; v < vectors; ++v) hn::StoreU(sum[b][v], df, to[b] + v * kLanes);
  };
  const size_t blocks = width / values, size = blocks * bytes;
  const uint8_t* at[kRows];
  float* to[kBatch];
  for (size_t block = 0; block < blocks; ++block) {
    if (block % step == 0)
      for (int r = 0; r < kRows; ++r)
        for (size_t line = 0; line < step * bytes; line += 64)
          PrefetchAhead(row[r], next[r], block * bytes + line, size);
    for (int r = 0; r < kRows; ++r) at[r] = row[r] + block * bytes;
    for (int b = 0; b < kBatch; ++b) to[b] = y[b] + block * values;
    add_block(at, to);
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
    add_block(at, to);
    for (int b = 0; b < kBatch; ++b) std::copy_n(sums[b], rest, y[b] + blocks * values);
  }
}

/// The columns [first, first + width) that one thread owns.
struct AxpyPart {
  const RowMatrix& matrix;
  const RowSet& rows;
  int64_t first, width;
};

template <class Decoder, int kRows, int kBatch>
HWY_INLINE int64_t AxpyRows(const AxpyPart& part, int64_t i, const float* const (&a)[kBatch],
                            float* const (&y)[kBatch]) {
  const int64_t count = part.rows.count();
  const int64_t offset = part.first / int64_t{Decoder::kValues} * Decoder::kBytes;
  const auto piece = [&](int64_t of) { return part.matrix.row(part.rows[of]) + offset; };
  for (; i + kRows <= count; i += kRows) {
    const uint8_t *row[kRows], *next[kRows];
    float of[kBatch][kRows];
    for (int r = 0; r < kRows; ++r) {
      row[r] = piece(i + r);
      next[r] = piece(std::min(i + r + kRows, count - 1));
      for (int b = 0; b < kBatch; ++b) of[b][r] = a[b][i + r];
    }
    AxpyTile<Decoder>(row, next, of, part.width, y);
  }
  return i;
}

template <int kBatch>
void AxpySome(const AxpyPart& part, const float* a, int64_t batch, float* y) {
  const float* of[kBatch];
  float* to[kBatch];
  std::vector<float> unwanted;
  if (batch < kBatch) unwanted.resize(part.matrix.width);
  for (int64_t b = 0; b < kBatch; ++b) {
    of[b] = a + std::min(b, batch - 1) * part.rows.count();
    to[b] = (b < batch ? y + b * part.matrix.width : unwanted.data()) + part.first;
  }
  WithDecoder(part.matrix.format, [&](auto decoder) HWY_ATTR {
    using Decoder = decltype(decoder);
    const int64_t done = AxpyRows<Decoder, 4>(part, 0, of, to);
    AxpyRows<Decoder, 1>(part, done, of, to);
  });
}

void AxpyColumns(const RowMatrix& matrix, const RowSet& rows, int64_t begin, int64_t end,
                 const float* a, int64_t batch, float* y) {
  const AxpyPart part{matrix, rows, begin, end - begin};
  for (int64_t b = 0; b < batch; b += 4) {
    const int64_t left = batch - b;
    const float* of = a + b * rows.count();
    float* to = y + b * matrix.width;
    if (left == 1) {
      AxpySome<1>(part, of, 1, to);
    } else if (left == 2) {
      AxpySome<2>(part, of, 2, to);
    } else {
      AxpySome<4>(part, of, std::min<int64_t>(left, 4), to);
    }
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
  const int64_t grain = std::max(32, block_values(matrix.format));
  threads.parallel_for(matrix.width, grain, [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(AxpyColumns)(matrix, rows, begin, end, a, batch, y);
  });
}

}  // namespace cajal
#endif
