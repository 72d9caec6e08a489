// Products of one tile of a packed matrix, for whichever instruction set is being compiled.
// Include after <hwy/highway.h>; compiled once for each target.
#if defined(CAJAL_KERNELS_PACKED_DOT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CAJAL_KERNELS_PACKED_DOT_INL_H_
#undef CAJAL_KERNELS_PACKED_DOT_INL_H_
#else
#define CAJAL_KERNELS_PACKED_DOT_INL_H_
#endif

#include "cajal/kernels/packed.h"
#include "cajal/kernels/streams-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cajal {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using PF = hn::CappedTag<float, 16>;  // a lane a row of half a tile
using PI = hn::RebindToSigned<PF>;
using VecF = hn::Vec<PF>;
using VecI = hn::Vec<PI>;
constexpr PF pf;
constexpr PI pi;
constexpr int kPackLanes = static_cast<int>(hn::MaxLanes(pf));
constexpr int kRowVectors = static_cast<int>(kTileRows) / kPackLanes;

/// Row vectors that are summed side by side: as many as leave registers for the batch.
constexpr int SideBySide(int batch) { return batch <= 4 && kRowVectors > 1 ? 2 : 1; }

/// sum + the products of the four weight codes (0..255) and activation codes (-128..127) in each
/// lane.
HWY_INLINE VecI DotBytes4(VecI sum, VecI weights, VecI activations) {
#if HWY_TARGET == HWY_AVX3_DL
  // In assembly because Highway's target asks the processor for VNNI but does not enable the
  // intrinsic.
  asm("vpdpbusd %2, %1, %0" : "+v"(sum.raw) : "v"(weights.raw), "v"(activations.raw));
  return sum;
#elif HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX2
  const hn::Repartition<int16_t, PI> d16;
  const auto even = hn::BitCast(d16, hn::And(weights, hn::Set(pi, 0x00ff00ff)));
  const auto odd = hn::BitCast(
      d16, hn::ShiftRight<8>(hn::BitCast(hn::RebindToUnsigned<decltype(d16)>(), weights)));
  const auto x = hn::BitCast(d16, activations);
  const auto x_even = hn::ShiftRight<8>(hn::ShiftLeft<8>(x)), x_odd = hn::ShiftRight<8>(x);
#if HWY_TARGET == HWY_AVX2
  const auto pairs = [](auto a, auto b) HWY_ATTR { return VecI{_mm256_madd_epi16(a.raw, b.raw)}; };
#else
  const auto pairs = [](auto a, auto b) HWY_ATTR { return VecI{_mm512_madd_epi16(a.raw, b.raw)}; };
#endif
  return hn::Add(sum, hn::Add(pairs(even, x_even), pairs(odd, x_odd)));
#else
  const auto product = [&](auto w, auto x) HWY_ATTR { sum = hn::Add(sum, hn::Mul(w, x)); };
  const auto byte = hn::Set(pi, 0xff);
  product(hn::And(weights, byte), hn::ShiftRight<24>(hn::ShiftLeft<24>(activations)));
  product(hn::And(hn::ShiftRight<8>(weights), byte),
          hn::ShiftRight<24>(hn::ShiftLeft<16>(activations)));
  product(hn::And(hn::ShiftRight<16>(weights), byte),
          hn::ShiftRight<24>(hn::ShiftLeft<8>(activations)));
  product(hn::And(hn::ShiftRight<24>(weights), byte), hn::ShiftRight<24>(activations));
  return sum;
#endif
}

/// Groups that are read side by side for a batch: one stream alone stays below the memory's rate.
constexpr int PackedStreams(int batch) { return batch <= 4 ? 2 : 1; }

/// Tiles between what a stream reads and what it asks memory for.
HWY_INLINE int64_t AheadTiles(int64_t tile_bytes) {
  return (static_cast<int64_t>(kAhead) + tile_bytes - 1) / tile_bytes;
}

HWY_INLINE VecI Bytes(int value) { return hn::Set(pi, value * 0x01010101); }

/// A tile at its row vector `v`, and how far ahead of it memory is asked for.
template <int kHalves, int kWords>
struct TileView {
  const uint8_t* tile;
  ptrdiff_t ahead;
  int v;

  /// fp16 number `h` of each row.
  HWY_INLINE VecF Half(int h) const {
    const hn::Rebind<hwy::float16_t, PF> d16;
    const uint8_t* at = tile + 64 * h + 2 * kPackLanes * v;
    if (v == 0) __builtin_prefetch(at + ahead, 0, 2);
    return hn::PromoteTo(pf, hn::LoadU(d16, reinterpret_cast<const hwy::float16_t*>(at)));
  }
  /// Word `w` of each row.
  HWY_INLINE VecI Word(int w) const {
    const int row = kPackLanes * v;
    const uint8_t* at = tile + 64 * kHalves + 64 * (row / 16 * kWords + w) + 4 * (row % 16);
    if (row % 16 == 0) __builtin_prefetch(at + ahead, 0, 2);
    return hn::LoadU(pi, reinterpret_cast<const int32_t*>(at));
  }
};

/// Rounded vectors [first, first + kBatch) of a batch; what is left over repeats the last one.
template <int kBatch_, int kPlanes_>
struct RoundedBatch {
  static constexpr int kBatch = kBatch_, kPlanes = kPlanes_;
  const int8_t* codes[kPlanes][kBatch];
  const float *scales[kBatch], *sums[kBatch];
  const int32_t* totals[kBatch];

  HWY_INLINE RoundedBatch(const RoundedActivations& x, int64_t first, int64_t count) {
    for (int64_t b = 0; b < kBatch; ++b) {
      const int64_t at = (first + std::min(b, count - 1)) * x.stride;
      for (int plane = 0; plane < kPlanes; ++plane) codes[plane][b] = x.codes[plane].data() + at;
      scales[b] = x.scales.data() + at / 32;
      sums[b] = x.sums.data() + at / 32;
      totals[b] = x.totals.data() + at / 16;
    }
  }
  /// Four codes that begin at column 4 * quad, in every lane.
  HWY_INLINE VecI Codes(int plane, int b, int64_t quad) const {
    int32_t four;
    std::memcpy(&four, codes[plane][b] + 4 * quad, 4);
    return hn::Set(pi, four);
  }
};

/// Integer sums over one scale's columns for kV row vectors and a batch.
template <class X, int kV>
struct Products {
  VecI sum[X::kPlanes][X::kBatch][kV];

  HWY_INLINE Products() {
    for (auto& plane : sum)
      for (auto& vectors : plane)
        for (auto& lanes : vectors) lanes = hn::Zero(pi);
  }
  HWY_INLINE void Add(const X& x, int64_t quad, const VecI (&weights)[kV]) {
    for (int plane = 0; plane < X::kPlanes; ++plane)
      for (int b = 0; b < X::kBatch; ++b) {
        const VecI codes = x.Codes(plane, b, quad);
        for (int v = 0; v < kV; ++v)
          sum[plane][b][v] = DotBytes4(sum[plane][b][v], weights[v], codes);
      }
  }
  /// In the scale of the activations; weight codes are 2^kShift too large (kShift < 0: are right).
  /// `part` counts parts of kTotals * 16 columns.
  template <int kShift, int kTotals>
  HWY_INLINE VecF Scaled(const X& x, int b, int v, int64_t part) const {
    VecI all = sum[0][b][v];
    if constexpr (X::kPlanes == 2) all = hn::Add(hn::ShiftLeft<8>(all), sum[1][b][v]);
    if constexpr (kShift >= 0) {
      const int32_t* totals = x.totals[b] + part * kTotals;
      all = hn::Sub(all, hn::ShiftLeft<kShift>(
                             hn::Set(pi, kTotals == 2 ? totals[0] + totals[1] : totals[0])));
    }
    return hn::Mul(hn::ConvertTo(pf, all), hn::Set(pf, x.scales[b][part * kTotals / 2]));
  }
};

// A tile kernel has kColumns and Add(tile, ahead, x, block, sums): sums[b][v] += the products of
// row vectors first + v with the columns of x that begin at kColumns * block.

/// q8_0, q4_0, q4_1, q5_0, q5_1. Nibbles: low ones are the first 16 columns.
template <bool nibbles, bool fifth, bool has_min, int kShift>
struct Tile32 {
  static constexpr int kColumns = 32, kHalves = has_min ? 2 : 1, kWords = nibbles ? 4 + fifth : 8;
  using View = TileView<kHalves, kWords>;

  template <int kV, class X>
  static HWY_INLINE void Add(const uint8_t* tile, ptrdiff_t ahead, int first, const X& x,
                             int64_t block, VecF (&sums)[X::kBatch][kV]) {
    Products<X, kV> products;
    VecI low[kV], high[kV], bits[kV];
    const auto view = [&](int v) HWY_ATTR { return View{tile, ahead, first + v}; };
    if constexpr (fifth)
      for (int v = 0; v < kV; ++v) bits[v] = view(v).Word(0);
    for (int w = 0; w < (nibbles ? 4 : 8); ++w) {
      for (int v = 0; v < kV; ++v) {
        const VecI word = view(v).Word(w + fifth);
        low[v] = nibbles ? hn::And(word, Bytes(15)) : word;
        if constexpr (nibbles) high[v] = hn::And(hn::ShiftRight<4>(word), Bytes(15));
        if constexpr (fifth) {
          low[v] = hn::Or(low[v], hn::And(hn::ShiftLeftSame(bits[v], 4 - w), Bytes(16)));
          high[v] = hn::Or(high[v], hn::And(hn::ShiftRightSame(bits[v], w), Bytes(16)));
        }
      }
      products.Add(x, 8 * block + w, low);
      if constexpr (nibbles) products.Add(x, 8 * block + w + 4, high);
    }
    for (int v = 0; v < kV; ++v) {
      const VecF scale = view(v).Half(0);
      for (int b = 0; b < X::kBatch; ++b) {
        sums[b][v] =
            hn::MulAdd(products.template Scaled<kShift, 2>(x, b, v, block), scale, sums[b][v]);
        if constexpr (has_min)
          sums[b][v] = hn::MulAdd(view(v).Half(1), hn::Set(pf, x.sums[b][block]), sums[b][v]);
      }
    }
  }
};

/// q4_K, q5_K: eight sub-blocks of 32 columns; words 0-2 hold their 6-bit scales and minima.
template <bool fifth>
struct TileAffine256 {
  static constexpr int kColumns = 256, kHalves = 2, kWords = fifth ? 43 : 35;
  using View = TileView<kHalves, kWords>;

  template <int kV, class X>
  static HWY_INLINE void Add(const uint8_t* tile, ptrdiff_t ahead, int first, const X& x,
                             int64_t block, VecF (&sums)[X::kBatch][kV]) {
    const auto view = [&](int v) HWY_ATTR { return View{tile, ahead, first + v}; };
    VecI scales[kV][2], minima[kV][2];
    VecF d[kV], dmin[kV];
    for (int v = 0; v < kV; ++v) {
      const VecI a = view(v).Word(0), b = view(v).Word(1), c = view(v).Word(2);
      const VecI low6 = Bytes(0x3f), low4 = Bytes(0x0f), high2 = Bytes(0x30);
      scales[v][0] = hn::And(a, low6), minima[v][0] = hn::And(b, low6);
      scales[v][1] = hn::Or(hn::And(c, low4), hn::And(hn::ShiftRight<2>(a), high2));
      minima[v][1] =
          hn::Or(hn::And(hn::ShiftRight<4>(c), low4), hn::And(hn::ShiftRight<2>(b), high2));
      d[v] = view(v).Half(0), dmin[v] = view(v).Half(1);
    }
    const auto field = [](const VecI(&packed)[2], int sub) HWY_ATTR {
      const VecI shifted = hn::ShiftRightSame(packed[sub / 4], 8 * (sub % 4));
      return hn::ConvertTo(pf, hn::And(shifted, hn::Set(pi, 63)));
    };
    for (int pair = 0; pair < 4; ++pair) {
      Products<X, kV> even, odd;
      for (int w = 0; w < 8; ++w) {
        VecI low[kV], high[kV];
        for (int v = 0; v < kV; ++v) {
          const VecI word = view(v).Word(3 + 8 * fifth + 8 * pair + w);
          low[v] = hn::And(word, Bytes(15));
          high[v] = hn::And(hn::ShiftRight<4>(word), Bytes(15));
          if constexpr (fifth) {
            const VecI bits = hn::ShiftRightSame(view(v).Word(3 + w), 2 * pair);
            low[v] = hn::Or(low[v], hn::And(hn::ShiftLeft<4>(bits), Bytes(16)));
            high[v] = hn::Or(high[v], hn::And(hn::ShiftLeft<3>(bits), Bytes(16)));
          }
        }
        even.Add(x, 64 * block + 16 * pair + w, low);
        odd.Add(x, 64 * block + 16 * pair + 8 + w, high);
      }
      for (int v = 0; v < kV; ++v)
        for (int half = 0; half < 2; ++half) {
          const int sub = 2 * pair + half;
          const int64_t part = 8 * block + sub;
          const VecF scale = hn::Mul(field(scales[v], sub), d[v]);
          const VecF min = hn::Mul(field(minima[v], sub), dmin[v]);
          for (int b = 0; b < X::kBatch; ++b) {
            const VecF product = (half ? odd : even).template Scaled<-1, 2>(x, b, v, part);
            sums[b][v] = hn::MulAdd(product, scale, sums[b][v]);
            sums[b][v] = hn::NegMulAdd(min, hn::Set(pf, x.sums[b][part]), sums[b][v]);
          }
        }
    }
  }
};

/// q6_K: sixteen sub-blocks of 16 columns; words 0-31 hold low nibbles, 32-47 pairs of high bits,
/// 48-51 the scales.
struct TileQ6_K {
  static constexpr int kColumns = 256, kHalves = 1, kWords = 52;
  using View = TileView<kHalves, kWords>;

  template <int kV, class X>
  static HWY_INLINE void Add(const uint8_t* tile, ptrdiff_t ahead, int first, const X& x,
                             int64_t block, VecF (&sums)[X::kBatch][kV]) {
    const auto view = [&](int v) HWY_ATTR { return View{tile, ahead, first + v}; };
    VecF d[kV];
    for (int v = 0; v < kV; ++v) d[v] = view(v).Half(0);
    const auto scale = [&](int v, int sub) HWY_ATTR {
      const VecI signed_byte = hn::ShiftLeftSame(view(v).Word(48 + sub / 4), 24 - 8 * (sub % 4));
      return hn::Mul(hn::ConvertTo(pf, hn::ShiftRight<24>(signed_byte)), d[v]);
    };
    // Each word of nibbles serves two sub-blocks that lie 64 columns apart.
    for (int run = 0; run < 8; ++run) {
      const int half = run / 4, second = run / 2 % 2, part = run % 2;  // 128, 32 and 16 columns
      Products<X, kV> low_sum, high_sum;
      for (int w = 4 * part; w < 4 * part + 4; ++w) {
        VecI low[kV], high[kV];
        for (int v = 0; v < kV; ++v) {
          const VecI word = view(v).Word(16 * half + 8 * second + w);
          const VecI bits = hn::ShiftRightSame(view(v).Word(32 + 8 * half + w), 2 * second);
          low[v] = hn::Or(hn::And(word, Bytes(15)), hn::And(hn::ShiftLeft<4>(bits), Bytes(0x30)));
          high[v] = hn::Or(hn::And(hn::ShiftRight<4>(word), Bytes(15)), hn::And(bits, Bytes(0x30)));
        }
        const int64_t quad = 64 * block + 32 * half + 8 * second + w;
        low_sum.Add(x, quad, low);
        high_sum.Add(x, quad + 16, high);
      }
      for (int v = 0; v < kV; ++v) {
        const int sub = 8 * half + 2 * second + part;
        const VecF low_scale = scale(v, sub), high_scale = scale(v, sub + 4);
        for (int b = 0; b < X::kBatch; ++b) {
          sums[b][v] = hn::MulAdd(low_sum.template Scaled<5, 1>(x, b, v, 16 * block + sub),
                                  low_scale, sums[b][v]);
          sums[b][v] = hn::MulAdd(high_sum.template Scaled<5, 1>(x, b, v, 16 * block + sub + 4),
                                  high_scale, sums[b][v]);
        }
      }
    }
  }
};

/// Vectors in single precision.
template <int kBatch_>
struct PlainBatch {
  static constexpr int kBatch = kBatch_;
  const float* values[kBatch];

  HWY_INLINE PlainBatch(const float* x, int64_t stride, int64_t first, int64_t count) {
    for (int64_t b = 0; b < kBatch; ++b) values[b] = x + (first + std::min(b, count - 1)) * stride;
  }
};

struct WordsF32 {
  static constexpr int kWords = 32, kValues = 1;
  static HWY_INLINE void Split(VecI word, VecF (&values)[kValues]) {
    values[0] = hn::BitCast(pf, word);
  }
};
struct WordsBf16 {
  static constexpr int kWords = 16, kValues = 2;
  static HWY_INLINE void Split(VecI word, VecF (&values)[kValues]) {
    values[0] = hn::BitCast(pf, hn::ShiftLeft<16>(word));
    values[1] = hn::BitCast(pf, hn::And(word, hn::Set(pi, static_cast<int32_t>(0xffff0000))));
  }
};
struct WordsF16 {
  static constexpr int kWords = 16, kValues = 2;
  static HWY_INLINE void Split(VecI word, VecF (&values)[kValues]) {
    const hn::Rebind<uint16_t, PF> d16;
    const hn::Rebind<hwy::float16_t, PF> half;
    const auto number = [&](VecI bits) HWY_ATTR {
      return hn::PromoteTo(pf, hn::BitCast(half, hn::DemoteTo(d16, bits)));
    };
    values[0] = number(hn::And(word, hn::Set(pi, 0xffff)));
    values[1] =
        number(hn::BitCast(pi, hn::ShiftRight<16>(hn::BitCast(hn::RebindToUnsigned<PI>(), word))));
  }
};

template <class Words>
struct TilePlain {
  static constexpr int kColumns = 32, kHalves = 0, kWords = Words::kWords;
  using View = TileView<kHalves, kWords>;

  template <int kV, class X>
  static HWY_INLINE void Add(const uint8_t* tile, ptrdiff_t ahead, int first, const X& x,
                             int64_t block, VecF (&sums)[X::kBatch][kV]) {
    constexpr int values = Words::kValues;
    for (int w = 0; w < kWords; ++w) {
      VecF weights[kV][values];
      for (int v = 0; v < kV; ++v) Words::Split(View{tile, ahead, first + v}.Word(w), weights[v]);
      for (int i = 0; i < values; ++i)
        for (int b = 0; b < X::kBatch; ++b) {
          const VecF of = hn::Set(pf, x.values[b][32 * block + values * w + i]);
          for (int v = 0; v < kV; ++v) sums[b][v] = hn::MulAdd(weights[v][i], of, sums[b][v]);
        }
    }
  }
};

/// Calls visit(tile kernel, x) for each piece of the batch that a kernel takes, with the place of
/// its first vector and how many of them count.
template <class Visit>
HWY_INLINE void WithPlainTile(Format format, const Visit& visit) {
  if (format == Format::f32) return visit(TilePlain<WordsF32>());
  if (format == Format::bf16) return visit(TilePlain<WordsBf16>());
  if (format == Format::f16) return visit(TilePlain<WordsF16>());
}
template <class Visit>
HWY_INLINE void WithRoundedTile(Format format, const Visit& visit) {
  switch (format) {
    case Format::q8_0:
      return visit(Tile32<false, false, false, 7>());
    case Format::q4_0:
      return visit(Tile32<true, false, false, 3>());
    case Format::q4_1:
      return visit(Tile32<true, false, true, -1>());
    case Format::q5_0:
      return visit(Tile32<true, true, false, 4>());
    case Format::q5_1:
      return visit(Tile32<true, true, true, -1>());
    case Format::q4_K:
      return visit(TileAffine256<false>());
    case Format::q5_K:
      return visit(TileAffine256<true>());
    case Format::q6_K:
      return visit(TileQ6_K());
    case Format::f32:
    case Format::f16:
    case Format::bf16:
      return;  // not quantised
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace cajal
HWY_AFTER_NAMESPACE();
#endif
