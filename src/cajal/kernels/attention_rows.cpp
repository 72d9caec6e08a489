#include "cajal/kernels/attention_rows.h"

#include <algorithm>
#include <vector>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cajal/kernels/attention_rows.cpp"
#include "cajal/kernels/simd_targets.h"
// After the choice of targets.
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "cajal/kernels/law-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cajal {
namespace HWY_NAMESPACE {

using DF = hn::CappedTag<float, 16>;
constexpr DF df;
using VF = hn::Vec<DF>;
constexpr int64_t kLanes = hn::MaxLanes(df);
constexpr int kWide = HWY_TARGET <= HWY_AVX3 ? 4 : 2;  // vectors of sums beside each other

/// c[i, j] (+)= sum over k of a[i * row_step + k * depth_step] b[k * b_stride + j] for kRows of i
/// and kVectors vectors of j.
template <int kRows, int kVectors>
HWY_INLINE void MultiplyTile(const float* a, int64_t row_step, int64_t depth_step, const float* b,
                             int64_t b_stride, int64_t depth, bool add, float* c,
                             int64_t c_stride) {
  VF sum[kRows][kVectors];
  for (int i = 0; i < kRows; ++i)
    for (int v = 0; v < kVectors; ++v)
      sum[i][v] = add ? hn::LoadU(df, c + i * c_stride + v * kLanes) : hn::Zero(df);
  for (int64_t k = 0; k < depth; ++k, a += depth_step, b += b_stride) {
    VF of[kVectors];
    for (int v = 0; v < kVectors; ++v) of[v] = hn::LoadU(df, b + v * kLanes);
    for (int i = 0; i < kRows; ++i) {
      const auto factor = hn::Set(df, a[i * row_step]);
      for (int v = 0; v < kVectors; ++v) sum[i][v] = hn::MulAdd(factor, of[v], sum[i][v]);
    }
  }
  for (int i = 0; i < kRows; ++i)
    for (int v = 0; v < kVectors; ++v) hn::StoreU(sum[i][v], df, c + i * c_stride + v * kLanes);
}

/// The same for any number of rows and a multiple of 16 columns.
HWY_INLINE void Multiply(const float* a, int64_t rows, int64_t row_step, int64_t depth_step,
                         const float* b, int64_t columns, int64_t depth, bool add, float* c) {
  const auto over_columns = [&](auto size, int64_t i) HWY_ATTR {
    constexpr int kRows = size;
    const float* const of = a + i * row_step;
    float* const to = c + i * columns;
    int64_t j = 0;
    for (; j + kWide * kLanes <= columns; j += kWide * kLanes)
      MultiplyTile<kRows, kWide>(of, row_step, depth_step, b + j, columns, depth, add, to + j,
                                 columns);
    for (; j < columns; j += kLanes)
      MultiplyTile<kRows, 1>(of, row_step, depth_step, b + j, columns, depth, add, to + j, columns);
  };
  int64_t i = 0;
  for (; i + 4 <= rows; i += 4) over_columns(std::integral_constant<int, 4>(), i);
  for (; i < rows; ++i) over_columns(std::integral_constant<int, 1>(), i);
}

/// Positions [begin, end) of a head in single precision, rows of padded_width.
HWY_INLINE void Load(const HeadCache& cache, int64_t head, int64_t begin, int64_t end, float* out) {
  const int64_t width = cache.head_width, stride = padded_width(width);
  for (int64_t p = begin; p < end; ++p, out += stride) {
    const int64_t at = head * cache.capacity + p % cache.capacity, first = at * width;
    // Ragged ends are copied to where a whole vector may be read.
    const auto convert = [&](const auto* from, const auto& promote) HWY_ATTR {
      using T = std::remove_cvref_t<decltype(*from)>;
      int64_t i = 0;
      for (; i + kLanes <= width; i += kLanes) hn::StoreU(promote(from + i), df, out + i);
      if (i == width) return;
      T rest[16] = {};
      std::copy_n(from + i, width - i, rest);
      for (int64_t k = 0; i + k < stride; k += kLanes)
        hn::StoreU(promote(rest + k), df, out + i + k);
    };
    switch (cache.format) {
      case CacheFormat::f32:
        convert(static_cast<const float*>(cache.data) + first,
                [&](const float* from) HWY_ATTR { return hn::LoadU(df, from); });
        break;
      case CacheFormat::f16:
        convert(static_cast<const hwy::float16_t*>(cache.data) + first,
                [&](const hwy::float16_t* from) HWY_ATTR {
                  return hn::PromoteTo(df, hn::LoadU(hn::Rebind<hwy::float16_t, DF>(), from));
                });
        break;
      case CacheFormat::q8: {
        const auto scale = hn::Set(df, cache.scale[at]);
        convert(static_cast<const int8_t*>(cache.data) + first, [&](const int8_t* from) HWY_ATTR {
          const auto codes =
              hn::PromoteTo(hn::RebindToSigned<DF>(), hn::LoadU(hn::Rebind<int8_t, DF>(), from));
          return hn::Mul(hn::ConvertTo(df, codes), scale);
        });
        break;
      }
    }
  }
}

/// scores [end - begin, rows] -> exp(score - largest), and what that makes of the sums so far.
HWY_INLINE void Weigh(const AttentionRows& rows, int64_t begin, int64_t end, float* scores,
                      const AttentionSums& out, int64_t width) {
  const hn::RebindToSigned<DF> di;
  const auto least = hn::Set(df, -1e30f), hidden = hn::Set(df, -2e30f);
  for (int64_t r = 0; r < rows.rows; r += kLanes) {
    const auto first = hn::LoadU(di, rows.first + r), last = hn::LoadU(di, rows.last + r);
    const auto before = hn::LoadU(df, out.largest + r);
    auto largest = hn::Max(before, least);
    for (int64_t p = begin; p < end; ++p) {
      float* const at = scores + (p - begin) * rows.rows + r;
      auto score = hn::LoadU(df, at);
      if (rows.cap > 0)
        score = hn::Mul(Tanh(df, hn::Mul(score, hn::Set(df, 1 / rows.cap))), hn::Set(df, rows.cap));
      const auto position = hn::Set(di, static_cast<int32_t>(p));
      const auto outside = hn::Or(hn::Lt(position, first), hn::Gt(position, last));
      score = hn::IfThenElse(hn::RebindMask(df, outside), hidden, score);
      largest = hn::IfThenElse(hn::Gt(score, largest), score, largest);
      hn::StoreU(score, df, at);
    }
    auto total = hn::Zero(df);
    for (int64_t p = begin; p < end; ++p) {
      float* const at = scores + (p - begin) * rows.rows + r;
      const auto weight = Exp(df, hn::Sub(hn::LoadU(df, at), largest));
      total = hn::Add(total, weight);
      hn::StoreU(weight, df, at);
    }
    const auto shrink = Exp(df, hn::Sub(before, largest));
    hn::StoreU(hn::MulAdd(hn::LoadU(df, out.total + r), shrink, total), df, out.total + r);
    hn::StoreU(largest, df, out.largest + r);
    float factor[kLanes];
    hn::StoreU(shrink, df, factor);
    for (int64_t i = 0; i < kLanes; ++i) {
      if (factor[i] == 1) continue;
      float* const sum = out.sum + (r + i) * width;
      for (int64_t c = 0; c < width; c += kLanes)
        hn::StoreU(hn::Mul(hn::LoadU(df, sum + c), hn::Set(df, factor[i])), df, sum + c);
    }
  }
}

void AttendRows(const AttentionRows& rows, const HeadCache& keys, const HeadCache& values,
                int64_t head, int64_t begin, int64_t end, float* block, float* scores,
                const AttentionSums& out) {
  const int64_t width = padded_width(keys.head_width);
  std::fill_n(out.largest, rows.rows, -1e30f);
  std::fill_n(out.total, rows.rows, 0.0f);
  std::fill_n(out.sum, rows.rows * width, 0.0f);
  for (int64_t p = begin; p < end; p += kKeyBlock) {
    const int64_t count = std::min(kKeyBlock, end - p);
    Load(keys, head, p, p + count, block);
    Multiply(block, count, width, 1, rows.q, rows.rows, keys.head_width, false, scores);
    Weigh(rows, p, p + count, scores, out, width);
    Load(values, head, p, p + count, block);
    Multiply(scores, rows.rows, 1, rows.rows, block, width, count, true, out.sum);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace cajal
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cajal {

HWY_EXPORT(AttendRows);

void attend_rows(const AttentionRows& rows, const HeadCache& keys, const HeadCache& values,
                 int64_t head, int64_t begin, int64_t end, const AttentionSums& out) {
  thread_local std::vector<float> block, scores;
  block.resize(kKeyBlock * padded_width(keys.head_width));
  scores.resize(kKeyBlock * rows.rows);
  HWY_DYNAMIC_DISPATCH(AttendRows)
  (rows, keys, values, head, begin, end, block.data(), scores.data(), out);
}

}  // namespace cajal
#endif
