#include <algorithm>

#include "cajal/kernels/rows.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cajal/kernels/rows_rounded.cpp"
#include "cajal/kernels/simd_targets.h"
// After the choice of targets.
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "cajal/kernels/streams-inl.h"
#include "cajal/kernels/vnni-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cajal {
namespace HWY_NAMESPACE {

/// The codes, scales and sums of `blocks` blocks of 32 values that begin at `at`.
void RoundBlocks(const float* from, int64_t blocks, RoundedActivations& x, int64_t at) {
  namespace hn = hwy::HWY_NAMESPACE;
  const hn::CappedTag<float, 16> d;
  const hn::RebindToSigned<decltype(d)> di;
  const hn::Rebind<int8_t, decltype(d)> d8;
  constexpr size_t lanes = hn::MaxLanes(d), vectors = 32 / lanes;
  const int32_t top = x.bits == 8 ? 127 : 127 * 256;
  for (int64_t block = 0; block < blocks; ++block, from += 32, at += 32) {
    auto largest = hn::Zero(d);
    for (size_t v = 0; v < vectors; ++v)
      largest = hn::Max(largest, hn::Abs(hn::LoadU(d, from + v * lanes)));
    const float most = hn::GetLane(hn::MaxOfLanes(d, largest));
    const auto inverse = hn::Set(d, most > 0 ? static_cast<float>(top) / most : 0.0f);
    int32_t totals[2] = {};
    for (size_t v = 0; v < vectors; ++v) {
      const auto nearest = hn::NearestInt(hn::Mul(hn::LoadU(d, from + v * lanes), inverse));
      const auto code = hn::Min(hn::Max(nearest, hn::Set(di, -top)), hn::Set(di, top));
      totals[v * lanes / 16] += hn::GetLane(hn::SumOfLanes(di, code));
      int8_t* const to = x.codes[0].data() + at + v * lanes;
      if (x.bits == 8) {
        hn::StoreU(hn::DemoteTo(d8, code), d8, to);
      } else {
        const auto high = hn::ShiftRight<8>(hn::Add(code, hn::Set(di, 128)));
        const auto low = hn::Sub(code, hn::ShiftLeft<8>(high));
        hn::StoreU(hn::DemoteTo(d8, high), d8, to);
        hn::StoreU(hn::DemoteTo(d8, low), d8, x.codes[1].data() + at + v * lanes);
      }
    }
    const float scale = most / static_cast<float>(top);
    x.scales[at / 32] = scale;
    x.sums[at / 32] = scale * static_cast<float>(totals[0] + totals[1]);
    std::copy_n(totals, 2, x.totals.begin() + at / 16);
  }
}

#if HWY_TARGET == HWY_AVX3_DL

/// kRows rows, each read as a stream of its own, against kBatch vectors of which `count` count.
template <class Kernel, int kRows, int kBatch>
HWY_INLINE void DotTile(const uint8_t* const (&row)[kRows], const uint8_t* const (&next)[kRows],
                        const RoundedActivations& x, int64_t first, int64_t count,
                        float (&out)[kRows][kBatch]) {
  constexpr int64_t values = Kernel::kValues, bytes = Kernel::kBytes;
  typename Kernel::Sum sum[kRows][kBatch];
  const auto add_group = [&](const uint8_t* const(&group)[kRows], int64_t column) HWY_ATTR {
    typename Kernel::Activations of[kBatch];
    for (int64_t b = 0; b < kBatch; ++b)  // what is left over repeats the last vector
      of[b].Load(x, (first + std::min(b, count - 1)) * x.stride + column);
    for (int r = 0; r < kRows; ++r) {
      typename Kernel::Weights weights;
      weights.Load(group[r]);
      for (int b = 0; b < kBatch; ++b) sum[r][b].Add(weights, of[b]);
    }
  };
  const int64_t groups = x.width / values, size = x.width * bytes / values;
  const uint8_t* group[kRows];
  for (int64_t g = 0; g < groups; ++g) {
    for (int r = 0; r < kRows; ++r) {
      group[r] = row[r] + g * bytes;
      PrefetchAhead(row[r], next[r], g * bytes, bytes, size);
    }
    add_group(group, g * values);
  }
  if (const int64_t rest = size - groups * bytes) {  // blocks of zeros fill the last group
    HWY_ALIGN uint8_t padded[kRows][bytes] = {};
    for (int r = 0; r < kRows; ++r) {
      std::memcpy(padded[r], row[r] + groups * bytes, rest);
      group[r] = padded[r];
    }
    add_group(group, groups * values);
  }
  for (int r = 0; r < kRows; ++r)
    for (int b = 0; b < kBatch; ++b) out[r][b] = sum[r][b].Total();
}

template <int kPlanes>
HWY_INLINE void DotPlanes(const RowPart& part, const RoundedActivations& x, float* y) {
  ForBatches(x.batch, [&](auto size, int64_t first, int64_t count) HWY_ATTR {
    constexpr int kBatch = size;
    WithVnniFormat<kPlanes>(part.matrix.format, [&](auto kernel) HWY_ATTR {
      part.ForStreams<StreamsFor(kBatch)>(
          [&](const auto& i, const auto& row, const auto& next) HWY_ATTR {
            constexpr int kStreams = std::extent_v<std::remove_reference_t<decltype(i)>>;
            float out[kStreams][kBatch];
            DotTile<decltype(kernel)>(row, next, x, first, count, out);
            for (int r = 0; r < kStreams; ++r)
              for (int64_t b = 0; b < count; ++b)
                y[(first + b) * part.rows.count() + i[r]] = out[r][b];
          });
    });
  });
}

bool DotRounded(const RowMatrix& matrix, const RowSet& rows, int64_t begin, int64_t end,
                const RoundedActivations& x, float* y) {
  const RowPart part{matrix, rows, begin, end};
  if (x.bits == 8) {
    DotPlanes<1>(part, x, y);
  } else {
    DotPlanes<2>(part, x, y);
  }
  return true;
}

#else

/// Whether the product was computed: there are no integer products for this instruction set.
bool DotRounded(const RowMatrix&, const RowSet&, int64_t, int64_t, const RoundedActivations&,
                float*) {
  return false;
}

#endif

}  // namespace HWY_NAMESPACE
}  // namespace cajal
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cajal {

HWY_EXPORT(RoundBlocks);
HWY_EXPORT(DotRounded);

RoundedActivations::RoundedActivations(const float* x, int64_t batch, int64_t width, int bits)
    : batch(batch), width(width), bits(bits), stride((width + 255) / 256 * 256) {
  require(width > 0 && width % 32 == 0,
          "rounded activations have width {}, expected a multiple of 32", width);
  require(bits == 8 || bits == 16, "activations can be rounded to 8 or 16 bits, not {}", bits);
  codes[0].resize(batch * stride);
  if (bits == 16) codes[1].resize(batch * stride);
  scales.resize(batch * stride / 32);
  sums.resize(batch * stride / 32);
  totals.resize(batch * stride / 16);
  for (int64_t b = 0; b < batch; ++b)
    HWY_DYNAMIC_DISPATCH(RoundBlocks)(x + b * width, width / 32, *this, b * stride);
}

void dot_rows(const RowMatrix& matrix, const RowSet& rows, const RoundedActivations& x, float* y,
              ThreadPool& threads) {
  require(is_quantised(matrix.format), "rounded activations need quantised rows, got {}",
          to_name(matrix.format));
  require(x.width == matrix.width, "rounded activations have width {}, the rows have {}", x.width,
          matrix.width);
  if (HWY_DYNAMIC_DISPATCH(DotRounded)(matrix, rows, 0, 0, x, y)) {
    threads.parallel_for(rows.count(), 1, [&](int64_t begin, int64_t end) {
      HWY_DYNAMIC_DISPATCH(DotRounded)(matrix, rows, begin, end, x, y);
    });
  } else {
    dot_rows(matrix, rows, x.values().data(), x.batch, y, threads);
  }
}

}  // namespace cajal
#endif
