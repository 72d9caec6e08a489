#include <algorithm>

#include "cajal/kernels/rows.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cajal/kernels/rows_dot.cpp"
#include "cajal/kernels/simd_targets.h"
// After the choice of targets.
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "cajal/kernels/decode-inl.h"
#include "cajal/kernels/streams-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cajal {
namespace HWY_NAMESPACE {

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
      PrefetchAhead(row[r], next[r], block * bytes, step * bytes, row_size);
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

/// `x` is readable up to the next multiple of 32 values.
void DotRange(const RowMatrix& matrix, const RowSet& rows, int64_t begin, int64_t end,
              const float* x, int64_t x_stride, int64_t batch, float* y) {
  const RowPart part{matrix, rows, begin, end};
  ForBatches(batch, [&](auto size, int64_t first, int64_t count) HWY_ATTR {
    constexpr int kBatch = size, kRows = StreamsFor(kBatch);
    const float* of[kBatch];  // what is left over repeats the last vector
    for (int64_t b = 0; b < kBatch; ++b) of[b] = x + (first + std::min(b, count - 1)) * x_stride;
    WithDecoder(matrix.format, [&](auto decoder) HWY_ATTR {
      part.ForStreams<kRows>([&](const auto& i, const auto& row, const auto& next) HWY_ATTR {
        constexpr int kStreams = std::extent_v<std::remove_reference_t<decltype(i)>>;
        float out[kStreams][kBatch];
        DotTile<decltype(decoder)>(row, next, matrix.width, of, out);
        for (int r = 0; r < kStreams; ++r)
          for (int64_t b = 0; b < count; ++b) y[(first + b) * rows.count() + i[r]] = out[r][b];
      });
    });
  });
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
