#include <algorithm>

#include "cajal/kernels/rows.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cajal/kernels/rows_dot.cpp"
#include "cajal/kernels/simd_targets.h"
// After the choice of targets.
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "cajal/kernels/decode-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cajal {
namespace HWY_NAMESPACE {

/// The part of a product that one thread computes: y[b][i] for i in [begin, end) of the row set.
struct DotPart {
  const RowMatrix& matrix;
  const RowSet& rows;
  int64_t begin, end;
};

/// kRows rows at once, each read as a stream of its own, against kBatch vectors.
template <class Decoder, int kRows, int kBatch>
HWY_INLINE void DotTile(const uint8_t* const (&row)[kRows], const uint8_t* const (&next)[kRows],
                        int64_t width, const float* const (&x)[kBatch],
                        float (&out)[kRows][kBatch]) {
  constexpr size_t values = Decoder::kValues, bytes = Decoder::kBytes;
  constexpr size_t step = std::max<size_t>(1, 128 / bytes);  // blocks between prefetches
  VF sum[kRows][kBatch];
  for (int r = 0; r < kRows; ++r)
    for (int b = 0; b < kBatch; ++b) sum[r][b] = hn::Zero(df);

  const auto add_block = [&](int r, const uint8_t* block, size_t column) HWY_ATTR {
    Decoder::Decode(block, [&](size_t i, VF w) HWY_ATTR {
      for (int b = 0; b < kBatch; ++b)
        sum[r][b] = hn::MulAdd(w, hn::LoadU(df, x[b] + column + i), sum[r][b]);
    });
  };
  const size_t blocks = width / values, row_size = blocks * bytes;
  size_t block = 0;
  for (; block + step <= blocks; block += step) {
    for (int r = 0; r < kRows; ++r)
      for (size_t line = 0; line < step * bytes; line += 64)
        PrefetchAhead(row[r], next[r], block * bytes + line, row_size);
    for (size_t k = block; k < block + step; ++k)
      for (int r = 0; r < kRows; ++r) add_block(r, row[r] + k * bytes, k * values);
  }
  for (; block < blocks; ++block)
    for (int r = 0; r < kRows; ++r) add_block(r, row[r] + block * bytes, block * values);
  if (const size_t rest = width % values) {  // only formats whose values stand alone
    HWY_ALIGN uint8_t padded[bytes] = {};
    for (int r = 0; r < kRows; ++r) {
      std::memcpy(padded, row[r] + blocks * bytes, rest * (bytes / values));
      add_block(r, padded, blocks * values);
    }
  }
  for (int r = 0; r < kRows; ++r)
    for (int b = 0; b < kBatch; ++b) out[r][b] = hn::GetLane(hn::SumOfLanes(df, sum[r][b]));
}

template <class Decoder, int kRows, int kBatch>
HWY_INLINE void DotRows(const DotPart& part, int64_t first, int64_t count,
                        const float* const (&x)[kBatch], float* const (&y)[kBatch]) {
  const int64_t size = row_bytes(part.matrix.format, part.matrix.width);
  for (int64_t k = 0; k < count; ++k) {
    const uint8_t *row[kRows], *next[kRows];
    for (int r = 0; r < kRows; ++r) {
      const int64_t i = first + r * count + k;
      row[r] = part.matrix.row(part.rows[i]);
      next[r] = k + 1 < count ? part.matrix.row(part.rows[i + 1]) : row[r] + size;
    }
    float out[kRows][kBatch];
    DotTile<Decoder>(row, next, part.matrix.width, x, out);
    for (int r = 0; r < kRows; ++r)
      for (int b = 0; b < kBatch; ++b) y[b][first + r * count + k] = out[r][b];
  }
}

/// As many streams as registers allow: four are needed to reach the memory's full rate.
template <int kBatch>
void DotBatch(const DotPart& part, const float* const (&x)[kBatch], float* const (&y)[kBatch]) {
  constexpr int kStreams = kBatch <= 2 ? 4 : kBatch <= 4 ? 2 : 1;
  WithDecoder(part.matrix.format, [&](auto decoder) HWY_ATTR {
    using Decoder = decltype(decoder);
    const int64_t each = (part.end - part.begin) / kStreams, done = part.begin + each * kStreams;
    DotRows<Decoder, kStreams>(part, part.begin, each, x, y);
    DotRows<Decoder, 1>(part, done, part.end - done, x, y);
  });
}

template <int kBatch>
void DotSome(const DotPart& part, const float* x, int64_t x_stride, int64_t batch, float* y) {
  const float* of[kBatch];
  float* to[kBatch];
  for (int64_t b = 0; b < kBatch; ++b) {  // what is left over repeats the last vector
    of[b] = x + std::min(b, batch - 1) * x_stride;
    to[b] = y + std::min(b, batch - 1) * part.rows.count();
  }
  DotBatch<kBatch>(part, of, to);
}

/// `x` may be read up to the next multiple of 32 values of a row.
void DotRange(const RowMatrix& matrix, const RowSet& rows, int64_t begin, int64_t end,
              const float* x, int64_t x_stride, int64_t batch, float* y) {
  const DotPart part{matrix, rows, begin, end};
  for (int64_t b = 0; b < batch; b += 8) {
    const int64_t left = batch - b;
    const float* of = x + b * x_stride;
    float* to = y + b * rows.count();
    if (left == 1) {
      DotSome<1>(part, of, x_stride, 1, to);
    } else if (left == 2) {
      DotSome<2>(part, of, x_stride, 2, to);
    } else if (left <= 4) {
      DotSome<4>(part, of, x_stride, left, to);
    } else {
      DotSome<8>(part, of, x_stride, std::min<int64_t>(left, 8), to);
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace cajal
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cajal {

HWY_EXPORT(DotRange);

void dot_rows(const RowMatrix& matrix, const RowSet& rows, const float* x, int64_t batch, float* y,
              ThreadPool& threads) {
  int64_t x_stride = matrix.width;
  std::vector<float> padded;
  if (matrix.width % 32 != 0) {  // the last vector of a row is read whole
    x_stride = (matrix.width + 31) / 32 * 32;
    padded.resize(batch * x_stride);
    for (int64_t b = 0; b < batch; ++b)
      std::copy_n(x + b * matrix.width, matrix.width, padded.begin() + b * x_stride);
    x = padded.data();
  }
  threads.parallel_for(rows.count(), 1, [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(DotRange)(matrix, rows, begin, end, x, x_stride, batch, y);
  });
}

}  // namespace cajal
#endif
