// Decoders of one block into vectors of floats, for whichever instruction set is being compiled.
// Include after <hwy/highway.h>; compiled once for each target.
#if defined(CAJAL_KERNELS_DECODE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CAJAL_KERNELS_DECODE_INL_H_
#undef CAJAL_KERNELS_DECODE_INL_H_
#else
#define CAJAL_KERNELS_DECODE_INL_H_
#endif

#include <cstring>

#include "cajal/kernels/formats/format.h"

HWY_BEFORE_NAMESPACE();
namespace cajal {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using DF = hn::ScalableTag<float>;
using DI = hn::Rebind<int32_t, DF>;
using DU8 = hn::Rebind<uint8_t, DF>;
using DU16 = hn::Rebind<uint16_t, DF>;
using VF = hn::Vec<DF>;
using VI = hn::Vec<DI>;
constexpr DF df;
constexpr DI di;
constexpr size_t kLanes = hn::MaxLanes(df);
static_assert(32 % kLanes == 0);

// A decoder has kValues and kBytes of its block (of a unit of 32 values where they stand alone) and
// Decode(block, take), which calls take(i, values i .. i + kLanes - 1) for ascending... every i
// once.

template <class T>
HWY_INLINE T Load(const uint8_t* at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

/// The fp16 number at `at` in every lane.
HWY_INLINE VF BroadcastHalf(const uint8_t* at) {
  const hn::Rebind<hwy::float16_t, DF> dh;
  return hn::PromoteTo(df, hn::BitCast(dh, hn::Set(DU16(), Load<uint16_t>(at))));
}

HWY_INLINE VI LoadBytes(const uint8_t* at) { return hn::PromoteTo(di, hn::LoadU(DU8(), at)); }
HWY_INLINE VI LoadSignedBytes(const uint8_t* at) {
  const hn::Rebind<int8_t, DF> d;
  return hn::PromoteTo(di, hn::LoadU(d, reinterpret_cast<const int8_t*>(at)));
}
HWY_INLINE VI LowNibbles(VI bytes) { return hn::And(bytes, hn::Set(di, 15)); }
HWY_INLINE VI HighNibbles(VI bytes) { return hn::ShiftRight<4>(bytes); }

/// 16 in the lanes i whose bit first + i is set in `bits`, else 0.
HWY_INLINE VI FifthBits(uint32_t bits, size_t first) {
  const auto lane_bit = hn::Shl(hn::Set(di, 1), hn::Iota(di, 0));
  const auto set = hn::TestBit(hn::Set(di, static_cast<int32_t>(bits >> first)), lane_bit);
  return hn::IfThenElseZero(set, hn::Set(di, 16));
}

struct DecodeF32 {
  static constexpr size_t kValues = 32, kBytes = 128;
  template <class Take>
  static HWY_INLINE void Decode(const uint8_t* unit, const Take& take) {
    for (size_t i = 0; i < kValues; i += kLanes)
      take(i, hn::LoadU(df, reinterpret_cast<const float*>(unit) + i));
  }
};

struct DecodeF16 {
  static constexpr size_t kValues = 32, kBytes = 64;
  template <class Take>
  static HWY_INLINE void Decode(const uint8_t* unit, const Take& take) {
    const hn::Rebind<hwy::float16_t, DF> dh;
    for (size_t i = 0; i < kValues; i += kLanes)
      take(i, hn::PromoteTo(df, hn::LoadU(dh, reinterpret_cast<const hwy::float16_t*>(unit) + i)));
  }
};

struct DecodeBf16 {
  static constexpr size_t kValues = 32, kBytes = 64;
  template <class Take>
  static HWY_INLINE void Decode(const uint8_t* unit, const Take& take) {
    for (size_t i = 0; i < kValues; i += kLanes) {
      const auto high =
          hn::PromoteTo(hn::RebindToUnsigned<DF>(),
                        hn::LoadU(DU16(), reinterpret_cast<const uint16_t*>(unit) + i));
      take(i, hn::BitCast(df, hn::ShiftLeft<16>(high)));
    }
  }
};

struct DecodeQ8_0 {
  static constexpr size_t kValues = 32, kBytes = 34;
  template <class Take>
  static HWY_INLINE void Decode(const uint8_t* block, const Take& take) {
    const auto scale = BroadcastHalf(block);
    for (size_t i = 0; i < kValues; i += kLanes)
      take(i, hn::Mul(hn::ConvertTo(df, LoadSignedBytes(block + 2 + i)), scale));
  }
};

/// 4-bit and 5-bit blocks of 32: calls take(i, code) for codes 0..15 or 0..31.
template <bool five_bits, class Take>
HWY_INLINE void DecodeCodes32(const uint8_t* block, const Take& take) {
  const uint32_t fifth = five_bits ? Load<uint32_t>(block) : 0;
  const uint8_t* nibbles = block + (five_bits ? 4 : 0);
  for (size_t i = 0; i < 16; i += kLanes) {
    const auto bytes = LoadBytes(nibbles + i);
    auto low = LowNibbles(bytes), high = HighNibbles(bytes);
    if constexpr (five_bits) {
      low = hn::Or(low, FifthBits(fifth, i));
      high = hn::Or(high, FifthBits(fifth, i + 16));
    }
    take(i, low);
    take(i + 16, high);
  }
}

template <bool five_bits>
struct DecodeSymmetric32 {  // q4_0, q5_0: scale * (code - zero)
  static constexpr size_t kValues = 32, kBytes = five_bits ? 22 : 18;
  template <class Take>
  static HWY_INLINE void Decode(const uint8_t* block, const Take& take) {
    const auto scale = BroadcastHalf(block);
    const auto zero = hn::Set(di, five_bits ? 16 : 8);
    DecodeCodes32<five_bits>(block + 2, [&](size_t i, VI code) HWY_ATTR {
      take(i, hn::Mul(hn::ConvertTo(df, hn::Sub(code, zero)), scale));
    });
  }
};

template <bool five_bits>
struct DecodeAffine32 {  // q4_1, q5_1: scale * code + min
  static constexpr size_t kValues = 32, kBytes = five_bits ? 24 : 20;
  template <class Take>
  static HWY_INLINE void Decode(const uint8_t* block, const Take& take) {
    const auto scale = BroadcastHalf(block), min = BroadcastHalf(block + 2);
    DecodeCodes32<five_bits>(block + 4, [&](size_t i, VI code) HWY_ATTR {
      take(i, hn::MulAdd(hn::ConvertTo(df, code), scale, min));
    });
  }
};

/// The scales and minima of the 8 sub-blocks of a q4_K or q5_K block, as floats.
struct SubBlocks {
  HWY_ALIGN float scale[8];
  HWY_ALIGN float min[8];
};
HWY_INLINE SubBlocks UnpackSubBlocks(const uint8_t* block) {
  // Four packed bytes at a time; see unpack_scale_and_min for the layout.
  const uint32_t a = Load<uint32_t>(block + 4), b = Load<uint32_t>(block + 8),
                 c = Load<uint32_t>(block + 12);
  constexpr uint32_t low6 = 0x3f3f3f3f, low4 = 0x0f0f0f0f, low2 = 0x03030303;
  const uint32_t packed[4] = {a & low6, (c & low4) | ((a >> 6 & low2) << 4), b & low6,
                              (c >> 4 & low4) | ((b >> 6 & low2) << 4)};
  const hn::CappedTag<float, 8> d8;
  const hn::Rebind<uint8_t, decltype(d8)> du8;
  const hn::Rebind<int32_t, decltype(d8)> di8;
  const auto* bytes = reinterpret_cast<const uint8_t*>(packed);
  const auto d = hn::Set(d8, hn::GetLane(BroadcastHalf(block)));
  const auto dmin = hn::Set(d8, hn::GetLane(BroadcastHalf(block + 2)));
  SubBlocks out;
  for (size_t j = 0; j < 8; j += hn::MaxLanes(d8)) {
    const auto scale = hn::PromoteTo(di8, hn::LoadU(du8, bytes + j));
    const auto min = hn::PromoteTo(di8, hn::LoadU(du8, bytes + 8 + j));
    hn::Store(hn::Mul(hn::ConvertTo(d8, scale), d), d8, out.scale + j);
    hn::Store(hn::Mul(hn::ConvertTo(d8, min), dmin), d8, out.min + j);
  }
  return out;
}

template <bool five_bits>
struct DecodeAffine256 {  // q4_K, q5_K: scale * code - min
  static constexpr size_t kValues = 256, kBytes = five_bits ? 176 : 144;
  template <class Take>
  static HWY_INLINE void Decode(const uint8_t* block, const Take& take) {
    const auto sub = UnpackSubBlocks(block);
    const uint8_t* const nibbles = block + (five_bits ? 48 : 16);
    for (size_t pair = 0; pair < 4; ++pair) {
      const auto scale0 = hn::Set(df, sub.scale[2 * pair]), min0 = hn::Set(df, sub.min[2 * pair]);
      const auto scale1 = hn::Set(df, sub.scale[2 * pair + 1]),
                 min1 = hn::Set(df, sub.min[2 * pair + 1]);
      for (size_t i = 0; i < 32; i += kLanes) {
        const auto bytes = LoadBytes(nibbles + 32 * pair + i);
        auto low = LowNibbles(bytes), high = HighNibbles(bytes);
        if constexpr (five_bits) {
          const auto fifth =
              hn::ShiftRightSame(LoadBytes(block + 16 + i), static_cast<int>(2 * pair));
          low = hn::Or(low, hn::ShiftLeft<4>(hn::And(fifth, hn::Set(di, 1))));
          high = hn::Or(high, hn::ShiftLeft<3>(hn::And(fifth, hn::Set(di, 2))));
        }
        take(64 * pair + i, hn::MulSub(hn::ConvertTo(df, low), scale0, min0));
        take(64 * pair + 32 + i, hn::MulSub(hn::ConvertTo(df, high), scale1, min1));
      }
    }
  }
};

struct DecodeQ6_K {
  static constexpr size_t kValues = 256, kBytes = 210;
  template <class Take>
  static HWY_INLINE void Decode(const uint8_t* block, const Take& take) {
    const float d = hn::GetLane(BroadcastHalf(block + 208));
    const auto zero = hn::Set(di, 32), low2 = hn::Set(di, 3);
    const auto value = [&](size_t i, VI low, VI high) HWY_ATTR {
      const auto scale = static_cast<float>(static_cast<int8_t>(block[192 + i / 16]));
      const auto code = hn::Sub(hn::Or(low, hn::ShiftLeft<4>(hn::And(high, low2))), zero);
      take(i, hn::Mul(hn::ConvertTo(df, code), hn::Set(df, d * scale)));
    };
    for (size_t half = 0; half < 2; ++half) {
      for (size_t i = 0; i < 32; i += kLanes) {
        const auto a = LoadBytes(block + 64 * half + i);
        const auto b = LoadBytes(block + 64 * half + 32 + i);
        const auto high = LoadBytes(block + 128 + 32 * half + i);
        value(128 * half + i, LowNibbles(a), high);
        value(128 * half + 32 + i, LowNibbles(b), hn::ShiftRight<2>(high));
        value(128 * half + 64 + i, HighNibbles(a), hn::ShiftRight<4>(high));
        value(128 * half + 96 + i, HighNibbles(b), hn::ShiftRight<6>(high));
      }
    }
  }
};

/// Calls visit with the decoder of `format`.
template <class Visit>
HWY_INLINE void WithDecoder(Format format, const Visit& visit) {
  switch (format) {
    case Format::f32:
      return visit(DecodeF32());
    case Format::f16:
      return visit(DecodeF16());
    case Format::bf16:
      return visit(DecodeBf16());
    case Format::q8_0:
      return visit(DecodeQ8_0());
    case Format::q4_0:
      return visit(DecodeSymmetric32<false>());
    case Format::q4_1:
      return visit(DecodeAffine32<false>());
    case Format::q5_0:
      return visit(DecodeSymmetric32<true>());
    case Format::q5_1:
      return visit(DecodeAffine32<true>());
    case Format::q4_K:
      return visit(DecodeAffine256<false>());
    case Format::q5_K:
      return visit(DecodeAffine256<true>());
    case Format::q6_K:
      return visit(DecodeQ6_K());
  }
}

/// How far ahead of its reads a stream asks for memory: far enough to hide DRAM, near enough that
/// the lines are still in L2 when they are wanted. 1 KiB into L2 measured best.
constexpr size_t kAhead = 1024;

/// Prefetches what a stream that stands at `offset` of a row of `bytes` reads kAhead bytes later;
/// past the end of the row that is in `next`.
HWY_INLINE void PrefetchAhead(const uint8_t* row, const uint8_t* next, size_t offset,
                              size_t bytes) {
  const size_t at = offset + kAhead;
  __builtin_prefetch(at < bytes ? row + at : next + (at - bytes), 0, 2);
}

}  // namespace HWY_NAMESPACE
}  // namespace cajal
HWY_AFTER_NAMESPACE();
#endif
