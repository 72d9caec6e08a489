// Quantised rows against rounded activations with AVX-512 VNNI. Include after <hwy/highway.h>.
#if defined(CAJAL_KERNELS_VNNI_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CAJAL_KERNELS_VNNI_INL_H_
#undef CAJAL_KERNELS_VNNI_INL_H_
#else
#define CAJAL_KERNELS_VNNI_INL_H_
#endif

#include <cstring>

#include "cajal/kernels/rows.h"

#if HWY_TARGET == HWY_AVX3_DL
HWY_BEFORE_NAMESPACE();
namespace cajal {
namespace HWY_NAMESPACE {

/// sum + the four products of unsigned and signed bytes in each lane. In assembly because Highway's
/// target asks the processor for VNNI but does not enable the intrinsic.
HWY_INLINE __m512i DotBytes(__m512i sum, __m512i unsigned_bytes, __m512i signed_bytes) {
  asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(unsigned_bytes), "v"(signed_bytes));
  return sum;
}

HWY_INLINE __m256i Load32(const uint8_t* at) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at));
}
HWY_INLINE __m512i Join(__m256i low, __m256i high) {
  return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
}
/// Lane i is value[i * 16 / kParts .. ]: each of the first kParts values in a range of lanes of its
/// own, beginning with value `first`.
template <int kParts>
HWY_INLINE __m512 Spread(__m512 value, int first) {
  const __m512i lane = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
  const __m512i part = _mm512_srli_epi32(lane, kParts == 2 ? 3 : 2);
  return _mm512_permutexvar_ps(_mm512_add_epi32(part, _mm512_set1_epi32(first)), value);
}
HWY_INLINE float HalfAt(const uint8_t* at) {
  uint16_t half;
  std::memcpy(&half, at, sizeof half);
  return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(half)));
}

/// Activation codes that meet kVectors vectors of weight codes, summed into one. vpdpbusd wants
/// weight codes without sign, so they stay kZero too large, and sums begin at minus what that adds.
template <int kPlanes, int kVectors, int kZero>
struct ActivationCodes {
  __m512i code[kPlanes][kVectors], begin[kPlanes];

  HWY_INLINE void SetBegin() {
    const __m512i zero = _mm512_set1_epi8(static_cast<char>(kZero));
    for (int plane = 0; plane < kPlanes; ++plane) {
      __m512i excess = _mm512_setzero_si512();
      if constexpr (kZero != 0)
        for (int v = 0; v < kVectors; ++v) excess = DotBytes(excess, zero, code[plane][v]);
      begin[plane] = _mm512_sub_epi32(_mm512_setzero_si512(), excess);
    }
  }
  /// Natural order: 64 values a vector.
  HWY_INLINE void Load(const RoundedActivations& x, int64_t at) {
    for (int plane = 0; plane < kPlanes; ++plane)
      for (int v = 0; v < kVectors; ++v)
        code[plane][v] = _mm512_loadu_si512(x.codes[plane].data() + at + 64 * v);
    SetBegin();
  }
  HWY_INLINE __m512 Products(const __m512i* weights) const {
    __m512i sum[kPlanes];
    for (int plane = 0; plane < kPlanes; ++plane) {
      sum[plane] = begin[plane];
      for (int v = 0; v < kVectors; ++v)
        sum[plane] = DotBytes(sum[plane], weights[v], code[plane][v]);
    }
    if constexpr (kPlanes == 2) sum[0] = _mm512_add_epi32(_mm512_slli_epi32(sum[0], 8), sum[1]);
    return _mm512_cvtepi32_ps(sum[0]);
  }
};

// What DotTile asks of a format: groups of kValues values in kBytes bytes, Weights and Activations
// that load a group, and a Sum of their products.

template <int kPlanes>
struct VnniQ8_0 {  // two blocks
  static constexpr int kValues = 64, kBytes = 68;

  struct Weights {
    __m512i codes;
    __m512 scale;
    HWY_INLINE void Load(const uint8_t* group) {
      codes = _mm512_xor_si512(Join(Load32(group + 2), Load32(group + 36)),
                               _mm512_set1_epi8(-128));  // code + 128
      const __m512i words =
          _mm512_set_epi64(0, 0, 0, 0, 0x0011001100110011, 0x0011001100110011, 0, 0);
      scale = _mm512_cvtph_ps(
          _mm512_castsi512_si256(_mm512_permutexvar_epi16(words, _mm512_loadu_si512(group))));
    }
  };
  struct Activations {
    ActivationCodes<kPlanes, 1, 128> codes;
    __m512 scale;
    HWY_INLINE void Load(const RoundedActivations& x, int64_t at) {
      codes.Load(x, at);
      const float* of = x.scales.data() + at / 32;
      scale = _mm512_mask_blend_ps(0xff00, _mm512_set1_ps(of[0]), _mm512_set1_ps(of[1]));
    }
  };
  struct Sum {
    __m512 lanes;
    HWY_INLINE Sum() : lanes(_mm512_setzero_ps()) {}
    HWY_INLINE void Add(const Weights& w, const Activations& x) {
      lanes = _mm512_fmadd_ps(x.codes.Products(&w.codes), _mm512_mul_ps(w.scale, x.scale), lanes);
    }
    HWY_INLINE float Total() const { return _mm512_reduce_add_ps(lanes); }
  };
};

/// q4_0, q4_1, q5_0, q5_1: four blocks, four lanes a block. The low nibbles of a block are its
/// first 16 values, the high ones the others.
template <int kPlanes, bool five_bits, bool has_min>
struct VnniNibbles32 {
  static constexpr int kScales = has_min ? 4 : 2, kBlock = kScales + (five_bits ? 20 : 16);
  static constexpr int kValues = 128, kBytes = 4 * kBlock;

  struct Weights {
    __m512i codes[2];
    __m512 scale;
    __m128 min;

    HWY_INLINE void Load(const uint8_t* group) {
      const auto nibbles = [&](int block) HWY_ATTR {
        return _mm_loadu_si128(reinterpret_cast<const __m128i*>(group + kBlock * (block + 1) - 16));
      };
      __m512i all = _mm512_castsi128_si512(nibbles(0));
      all = _mm512_mask_broadcast_i32x4(all, 0x00f0, nibbles(1));
      all = _mm512_mask_broadcast_i32x4(all, 0x0f00, nibbles(2));
      all = _mm512_mask_broadcast_i32x4(all, 0xf000, nibbles(3));
      const __m512i mask = _mm512_set1_epi8(15);
      codes[0] = _mm512_and_si512(all, mask);
      codes[1] = _mm512_and_si512(_mm512_srli_epi16(all, 4), mask);
      if constexpr (five_bits) {
        const __m512i fifth = _mm512_set1_epi8(16);
        for (int half = 0; half < 2; ++half)
          codes[half] = _mm512_mask_add_epi8(codes[half], FourWords(group + kScales + 2 * half),
                                             codes[half], fifth);
      }
      scale = Spread<4>(_mm512_castps128_ps512(FourHalves(group)), 0);
      if constexpr (has_min) min = FourHalves(group + 2);
    }
    /// The 16 bits at the same place of each block.
    static HWY_INLINE uint64_t FourWords(const uint8_t* at) {
      uint16_t word[4];
      for (int block = 0; block < 4; ++block) std::memcpy(&word[block], at + kBlock * block, 2);
      return word[0] | uint64_t{word[1]} << 16 | uint64_t{word[2]} << 32 | uint64_t{word[3]} << 48;
    }
    static HWY_INLINE __m128 FourHalves(const uint8_t* at) {
      return _mm_cvtph_ps(_mm_cvtsi64_si128(static_cast<int64_t>(FourWords(at))));
    }
  };
  struct Activations {
    ActivationCodes<kPlanes, 2, has_min ? 0 : five_bits ? 16 : 8> codes;
    __m512 scale;
    __m128 sums;
    HWY_INLINE void Load(const RoundedActivations& x, int64_t at) {
      for (int plane = 0; plane < kPlanes; ++plane) {
        const __m512i a = _mm512_loadu_si512(x.codes[plane].data() + at);
        const __m512i b = _mm512_loadu_si512(x.codes[plane].data() + at + 64);
        codes.code[plane][0] = _mm512_shuffle_i32x4(a, b, 0x88);  // even quarters
        codes.code[plane][1] = _mm512_shuffle_i32x4(a, b, 0xdd);  // odd quarters
      }
      codes.SetBegin();
      scale = Spread<4>(_mm512_castps128_ps512(_mm_loadu_ps(x.scales.data() + at / 32)), 0);
      if constexpr (has_min) sums = _mm_loadu_ps(x.sums.data() + at / 32);
    }
  };
  struct Sum {
    __m512 lanes;
    __m128 minima;
    HWY_INLINE Sum() : lanes(_mm512_setzero_ps()), minima(_mm_setzero_ps()) {}
    HWY_INLINE void Add(const Weights& w, const Activations& x) {
      lanes = _mm512_fmadd_ps(x.codes.Products(w.codes), _mm512_mul_ps(w.scale, x.scale), lanes);
      if constexpr (has_min) minima = _mm_fmadd_ps(w.min, x.sums, minima);
    }
    HWY_INLINE float Total() const {
      const float products = _mm512_reduce_add_ps(lanes);
      if constexpr (!has_min) return products;
      return products + _mm512_reduce_add_ps(_mm512_zextps128_ps512(minima));
    }
  };
};

/// The K formats: four vectors of 64 codes in natural order, each with kParts scales.
template <int kPlanes, class Codes>
struct VnniK {
  static constexpr int kValues = 256, kBytes = Codes::kBytes;
  using Weights = Codes;

  struct Activations {
    ActivationCodes<kPlanes, 1, Codes::kZero> codes[4];
    __m512 scale;  // of each of the sub-blocks, 8 or 16
    __m256 sums;
    HWY_INLINE void Load(const RoundedActivations& x, int64_t at) {
      for (int v = 0; v < 4; ++v) codes[v].Load(x, at + 64 * v);
      const __m512 eight = _mm512_castps256_ps512(_mm256_loadu_ps(x.scales.data() + at / 32));
      const __m512i twice = _mm512_set_epi32(7, 7, 6, 6, 5, 5, 4, 4, 3, 3, 2, 2, 1, 1, 0, 0);
      scale = Codes::kParts == 2 ? eight : _mm512_permutexvar_ps(twice, eight);
      if constexpr (Codes::kHasMin) sums = _mm256_loadu_ps(x.sums.data() + at / 32);
    }
  };
  struct Sum {
    __m512 lanes;
    __m256 minima;
    HWY_INLINE Sum() : lanes(_mm512_setzero_ps()), minima(_mm256_setzero_ps()) {}
    HWY_INLINE void Add(const Weights& w, const Activations& x) {
      const __m512 scale = _mm512_mul_ps(w.scale, x.scale);
      for (int v = 0; v < 4; ++v)
        lanes = _mm512_fmadd_ps(x.codes[v].Products(&w.codes[v]),
                                Spread<Codes::kParts>(scale, Codes::kParts * v), lanes);
      if constexpr (Codes::kHasMin) minima = _mm256_fmadd_ps(w.min, x.sums, minima);
    }
    HWY_INLINE float Total() const {
      const float products = _mm512_reduce_add_ps(lanes);
      if constexpr (!Codes::kHasMin) return products;
      return products - _mm512_reduce_add_ps(_mm512_zextps256_ps512(minima));
    }
  };
};

template <bool five_bits>
struct CodesAffine256 {  // q4_K, q5_K
  static constexpr int kBytes = five_bits ? 176 : 144, kZero = 0, kParts = 2;
  static constexpr bool kHasMin = true;
  __m512i codes[4];
  __m512 scale;
  __m256 min;

  HWY_INLINE void Load(const uint8_t* block) {
    // Eight 6-bit scales and eight minima, four packed bytes at a time.
    uint32_t a, b, c;
    std::memcpy(&a, block + 4, 4), std::memcpy(&b, block + 8, 4), std::memcpy(&c, block + 12, 4);
    constexpr uint32_t low6 = 0x3f3f3f3f, low4 = 0x0f0f0f0f, low2 = 0x03030303;
    const __m128i packed = _mm_set_epi32(
        static_cast<int>((c >> 4 & low4) | (b >> 6 & low2) << 4), static_cast<int>(b & low6),
        static_cast<int>((c & low4) | (a >> 6 & low2) << 4), static_cast<int>(a & low6));
    const __m512 d = _mm512_mask_blend_ps(0xff00, _mm512_set1_ps(HalfAt(block)),
                                          _mm512_set1_ps(HalfAt(block + 2)));
    scale = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(packed)), d);
    min = _mm512_extractf32x8_ps(scale, 1);

    const __m512i mask = _mm512_set1_epi8(15);
    const __m256i bits = five_bits ? Load32(block + 16) : _mm256_setzero_si256();
    for (int v = 0; v < 4; ++v) {
      const __m256i nibbles = Load32(block + kBytes - 128 + 32 * v);
      codes[v] = _mm512_and_si512(Join(nibbles, _mm256_srli_epi16(nibbles, 4)), mask);
      if constexpr (five_bits) {
        const __m512i bit = Join(_mm256_set1_epi8(static_cast<char>(1 << 2 * v)),
                                 _mm256_set1_epi8(static_cast<char>(2 << 2 * v)));
        codes[v] = _mm512_mask_add_epi8(codes[v], _mm512_test_epi8_mask(Join(bits, bits), bit),
                                        codes[v], _mm512_set1_epi8(16));
      }
    }
  }
};

struct CodesQ6_K {
  static constexpr int kBytes = 210, kZero = 32, kParts = 4;
  static constexpr bool kHasMin = false;
  __m512i codes[4];
  __m512 scale;
  __m256 min;

  HWY_INLINE void Load(const uint8_t* block) {
    const __m128i scales = _mm_loadu_si128(reinterpret_cast<const __m128i*>(block + 192));
    scale = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(scales)),
                          _mm512_set1_ps(HalfAt(block + 208)));
    const __m512i low4 = _mm512_set1_epi8(15), high2 = _mm512_set1_epi8(0x30);
    for (int half = 0; half < 2; ++half) {
      const __m512i nibbles = _mm512_loadu_si512(block + 64 * half);
      const __m256i pairs = Load32(block + 128 + 32 * half);
      const __m512i high = Join(pairs, _mm256_srli_epi16(pairs, 2));
      codes[2 * half] = _mm512_or_si512(_mm512_and_si512(nibbles, low4),
                                        _mm512_and_si512(_mm512_slli_epi16(high, 4), high2));
      codes[2 * half + 1] = _mm512_or_si512(_mm512_and_si512(_mm512_srli_epi16(nibbles, 4), low4),
                                            _mm512_and_si512(high, high2));
    }
  }
};

/// Calls visit with what DotTile needs for a quantised format.
template <int kPlanes, class Visit>
HWY_INLINE void WithVnniFormat(Format format, const Visit& visit) {
  switch (format) {
    case Format::q8_0:
      return visit(VnniQ8_0<kPlanes>());
    case Format::q4_0:
      return visit(VnniNibbles32<kPlanes, false, false>());
    case Format::q4_1:
      return visit(VnniNibbles32<kPlanes, false, true>());
    case Format::q5_0:
      return visit(VnniNibbles32<kPlanes, true, false>());
    case Format::q5_1:
      return visit(VnniNibbles32<kPlanes, true, true>());
    case Format::q4_K:
      return visit(VnniK<kPlanes, CodesAffine256<false>>());
    case Format::q5_K:
      return visit(VnniK<kPlanes, CodesAffine256<true>>());
    case Format::q6_K:
      return visit(VnniK<kPlanes, CodesQ6_K>());
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
#endif
