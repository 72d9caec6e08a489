#include "cajal/kernels/columns.h"

#include <algorithm>
#include <vector>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cajal/kernels/columns.cpp"
#include "cajal/kernels/simd_targets.h"
// After the choice of targets.
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace cajal {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using DF = hn::CappedTag<float, kColumns>;
using DI = hn::Rebind<int32_t, DF>;
using DH = hn::Half<DF>;
using DD = hn::Rebind<double, DH>;
using VD = hn::Vec<DD>;
constexpr DF df;
constexpr DI di;
constexpr DH dh;
constexpr DD dd;
constexpr size_t kLanes = hn::MaxLanes(df), kWide = hn::MaxLanes(dd), kHalves = kLanes / kWide;

/// Rows that are asked for ahead of their use: a column strides over pages, where the processor
/// foresees nothing.
constexpr int64_t kAhead = 12;

/// Lanes + 1 where the mask is set.
template <class Mask>
HWY_INLINE hn::Vec<DI> CountIf(hn::Vec<DI> lanes, Mask mask) {
  return hn::Sub(lanes, hn::VecFromMask(di, hn::RebindMask(di, mask)));
}

/// The place of x among kBins: its exponent and the two bits behind it.
HWY_INLINE hn::Vec<DI> BinOf(hn::Vec<DF> x) {
  const auto size = hn::ShiftRight<21>(hn::BitCast(di, hn::Abs(x)));
  const auto place = hn::Sub(size, hn::Set(di, ((127 - kBinOctaves / 2) << 2) - 1));
  const auto clamped = hn::Min(hn::Max(place, hn::Zero(di)), hn::Set(di, kBinSide));
  const auto below = hn::RebindMask(di, hn::Lt(x, hn::Zero(df)));
  return hn::Add(hn::Set(di, kBinSide), hn::IfThenElse(below, hn::Neg(clamped), clamped));
}

template <bool kShapes>
void AddColumns(const ColumnRows& in, ColumnSums& sums, uint8_t* fired, uint32_t* bins) {
  const auto zero = hn::Zero(df), threshold = hn::Set(df, in.threshold);
  const bool by_size = in.threshold > 0;
  const hn::Rebind<uint8_t, DI> du8;
  HWY_ALIGN int32_t places[kLanes];
  for (size_t c = 0; c < kColumns; c += kLanes) {
    VD sum[kHalves], absolute[kHalves], square[kHalves], power[4][kHalves];
    for (size_t h = 0; h < kHalves; ++h) {
      const size_t at = c + h * kWide;
      sum[h] = hn::Load(dd, sums.sum + at), absolute[h] = hn::Load(dd, sums.absolute + at);
      square[h] = hn::Load(dd, sums.square + at);
      for (int k = 0; k < 4; ++k) power[k][h] = hn::Load(dd, sums.power[k] + at);
    }
    auto positive = hn::Load(di, sums.positive + c), none = hn::Load(di, sums.zero + c);
    auto high = hn::Load(di, sums.high + c), lit = hn::Load(di, sums.fired + c);
    auto largest = hn::Load(df, sums.largest + c);
    const auto norm = hn::LoadU(df, in.norm + c);
    const auto row_of_bins = hn::Mul(hn::Iota(di, static_cast<int32_t>(c)), hn::Set(di, kBins));
    for (int64_t r = 0; r < in.rows; ++r) {
      const float* a_row = in.post + r * in.stride + c;
      const float* x_row = in.asked + r * in.stride + c;
      const auto a = hn::LoadU(df, a_row), x = hn::LoadU(df, x_row), size = hn::Abs(a);
      __builtin_prefetch(a_row + kAhead * in.stride);
      if (kShapes) __builtin_prefetch(x_row + kAhead * in.stride);
      positive = CountIf(positive, hn::Gt(a, zero));
      none = CountIf(none, hn::Eq(a, zero));
      const auto written = hn::Mul(a, norm), energy = hn::Mul(written, written);
      high = CountIf(high, hn::And(hn::Ge(energy, hn::Set(df, in.least[r])), hn::Ne(a, zero)));
      const auto fires = by_size ? hn::Gt(size, threshold) : hn::Gt(x, zero);
      lit = CountIf(lit, fires);
      const auto one = hn::IfThenElseZero(hn::RebindMask(di, fires), hn::Set(di, 1));
      hn::StoreU(hn::DemoteTo(du8, one), du8, fired + r * in.stride + c);
      largest = hn::Max(largest, size);
      for (size_t h = 0; h < kHalves; ++h) {
        const auto wide = hn::PromoteTo(dd, hn::LoadU(dh, a_row + h * kWide));
        sum[h] = hn::Add(sum[h], wide);
        absolute[h] = hn::Add(absolute[h], hn::Abs(wide));
        square[h] = hn::MulAdd(wide, wide, square[h]);
        if (!kShapes) continue;
        const auto scaled =
            hn::Mul(hn::PromoteTo(dd, hn::LoadU(dh, x_row + h * kWide)), hn::Set(dd, 1.0 / 16));
        const auto second = hn::Mul(scaled, scaled);
        power[0][h] = hn::Add(power[0][h], scaled);
        power[1][h] = hn::Add(power[1][h], second);
        power[2][h] = hn::MulAdd(second, scaled, power[2][h]);
        power[3][h] = hn::MulAdd(second, second, power[3][h]);
      }
      if (!kShapes) continue;
      hn::Store(hn::Add(BinOf(x), row_of_bins), di, places);
      for (size_t k = 0; k < kLanes; ++k) ++bins[places[k]];
    }
    for (size_t h = 0; h < kHalves; ++h) {
      const size_t at = c + h * kWide;
      hn::Store(sum[h], dd, sums.sum + at), hn::Store(absolute[h], dd, sums.absolute + at);
      hn::Store(square[h], dd, sums.square + at);
      for (int k = 0; k < 4; ++k) hn::Store(power[k][h], dd, sums.power[k] + at);
    }
    hn::Store(positive, di, sums.positive + c), hn::Store(none, di, sums.zero + c);
    hn::Store(high, di, sums.high + c), hn::Store(lit, di, sums.fired + c);
    hn::Store(largest, df, sums.largest + c);
  }
}

void AddColumnsOnly(const ColumnRows& in, ColumnSums& sums, uint8_t* fired, uint32_t*) {
  AddColumns<false>(in, sums, fired, nullptr);
}
void AddColumnsAndShapes(const ColumnRows& in, ColumnSums& sums, uint8_t* fired, uint32_t* bins) {
  AddColumns<true>(in, sums, fired, bins);
}

void CentreColumns(const float* x, int64_t stride, const float* shift, int64_t rows, int64_t begin,
                   int64_t end, float* out, int64_t out_stride, double* sum, double* square) {
  for (int64_t r = 0; r < rows; ++r) {
    const float* from = x + r * stride;
    float* to = out + r * out_stride;
    int64_t c = begin;
    for (; c + static_cast<int64_t>(kLanes) <= end; c += kLanes) {
      hn::StoreU(hn::Sub(hn::LoadU(df, from + c), hn::LoadU(df, shift + c)), df, to + c);
      for (size_t h = 0; h < kLanes; h += kWide) {
        const auto wide = hn::PromoteTo(dd, hn::LoadU(dh, to + c + h));
        double* const s = sum + c + h;
        double* const s2 = square + c + h;
        hn::StoreU(hn::Add(hn::LoadU(dd, s), wide), dd, s);
        hn::StoreU(hn::MulAdd(wide, wide, hn::LoadU(dd, s2)), dd, s2);
      }
    }
    for (; c < end; ++c) {
      const double wide = to[c] = from[c] - shift[c];
      sum[c] += wide, square[c] += wide * wide;
    }
  }
}

int64_t LiveEnergies(const float* a, const float* norm, int64_t neurons, float* energies) {
  int64_t count = 0, i = 0;
  for (; i + static_cast<int64_t>(kLanes) <= neurons; i += kLanes) {
    const auto written = hn::Mul(hn::LoadU(df, a + i), hn::LoadU(df, norm + i));
    const auto energy = hn::Mul(written, written);
    const auto live = hn::Not(hn::Le(energy, hn::Zero(df)));
    count += static_cast<int64_t>(hn::CompressStore(energy, live, df, energies + count));
  }
  for (; i < neurons; ++i) {
    const float written = a[i] * norm[i], energy = written * written;
    energies[count] = energy;
    count += !(energy <= 0);
  }
  return count;
}

}  // namespace HWY_NAMESPACE
}  // namespace cajal
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cajal {

HWY_EXPORT(AddColumnsOnly);
HWY_EXPORT(AddColumnsAndShapes);
HWY_EXPORT(LiveEnergies);
HWY_EXPORT(CentreColumns);

namespace {

void add_whole(const ColumnRows& rows, ColumnSums& sums, uint8_t* fired, uint32_t* bins) {
  if (bins)
    HWY_DYNAMIC_DISPATCH(AddColumnsAndShapes)(rows, sums, fired, bins);
  else
    HWY_DYNAMIC_DISPATCH(AddColumnsOnly)(rows, sums, fired, bins);
}

}  // namespace

void add_columns(const ColumnRows& rows, ColumnSums& sums, uint8_t* fired, uint32_t* bins) {
  if (rows.columns == kColumns) return add_whole(rows, sums, fired, bins);
  // The last few columns are copied into a table of their own that is wide enough.
  const auto places = static_cast<size_t>(rows.rows * kColumns);
  const auto count = static_cast<size_t>(rows.columns);
  std::vector<float> post(places), asked(places);
  std::vector<uint8_t> fires(places);
  std::vector<uint32_t> counts(bins ? size_t{kColumns * kBins} : 0);
  float norm[kColumns] = {};
  std::copy_n(rows.norm, count, norm);
  if (bins) std::copy_n(bins, count * kBins, counts.data());
  for (int64_t r = 0; r < rows.rows; ++r) {
    std::copy_n(rows.post + r * rows.stride, count, post.data() + r * kColumns);
    std::copy_n(rows.asked + r * rows.stride, count, asked.data() + r * kColumns);
  }
  auto padded = rows;
  padded.post = post.data(), padded.asked = asked.data(), padded.norm = norm;
  padded.stride = kColumns;
  add_whole(padded, sums, fires.data(), bins ? counts.data() : nullptr);
  for (int64_t r = 0; r < rows.rows; ++r)
    std::copy_n(fires.data() + r * kColumns, count, fired + r * rows.stride);
  if (bins) std::copy_n(counts.data(), count * kBins, bins);
}

void centre_columns(const float* x, int64_t stride, const float* shift, int64_t rows,
                    int64_t columns, float* out, int64_t out_stride, double* sum, double* square,
                    ThreadPool& threads) {
  constexpr int64_t together = 256;  // columns whose sums stay in L1
  threads.parallel_for(columns, together, [&](int64_t from, int64_t to) {
    for (int64_t c = from; c < to; c += together) HWY_DYNAMIC_DISPATCH(CentreColumns)
    (x, stride, shift, rows, c, std::min(to, c + together), out, out_stride, sum, square);
  });
}

int64_t live_energies(const float* a, const float* norm, int64_t neurons, float* energies) {
  return HWY_DYNAMIC_DISPATCH(LiveEnergies)(a, norm, neurons, energies);
}

}  // namespace cajal
#endif
