// Blocks of 256 values (the K formats): sub-blocks whose scales are themselves quantised.
#include <cmath>

#include "cajal/kernels/formats/blocks.h"

namespace cajal::blocks {
namespace {

constexpr int kValues = 256;
constexpr float kNothing = 1e-15f;  // smaller magnitudes are stored as zeros

// ---- q4_K and q5_K: 8 sub-blocks of 32, x ~ d * scale * code - dmin * min

struct AffineSearch {
  int top;      // codes are 0..top
  float first;  // inverse scales tried: (top + first + 0.1 trial) / (max - min)
  int trials;
};
constexpr AffineSearch kSearch4{15, -1.0f, 21}, kSearch5{31, -0.5f, 16};

struct Affine {
  float scale, min;  // x ~ scale * code - min, min >= 0
};

/// Fits 32 values by weighted least squares over the trials of `search`.
Affine fit_affine(const float* x, const AffineSearch& search, uint8_t* codes) {
  constexpr int n = 32;
  float squares = 0;
  for (int i = 0; i < n; ++i) squares += x[i] * x[i];
  const float root_mean_square = std::sqrt(squares / n);

  float weight[n], min = x[0], max = x[0], sum_w = 0, sum_x = 0;
  for (int i = 0; i < n; ++i) {
    weight[i] = root_mean_square + std::fabs(x[i]);
    min = std::min(min, x[i]);
    max = std::max(max, x[i]);
    sum_w += weight[i];
    sum_x += weight[i] * x[i];
  }
  min = std::min(min, 0.0f);
  if (max == min) {
    std::fill_n(codes, n, uint8_t{0});
    return {0, -min};
  }
  const auto encode = [&](float inverse, uint8_t* out) {
    for (int i = 0; i < n; ++i)
      out[i] = static_cast<uint8_t>(nearest(inverse * (x[i] - min), 0, search.top));
  };
  const auto error_of = [&](const uint8_t* of, float scale, float offset) {
    float error = 0;
    for (int i = 0; i < n; ++i) {
      const float difference = scale * of[i] + offset - x[i];
      error += weight[i] * (difference * difference);
    }
    return error;
  };

  // Where a trial is better, the next ones start from its minimum.
  const auto top = static_cast<float>(search.top);
  const float first_inverse = top / (max - min);
  float scale = 1 / first_inverse;
  encode(first_inverse, codes);
  float best = error_of(codes, scale, min);
  for (int trial = 0; trial < search.trials; ++trial) {
    uint8_t tried[n];
    encode((search.first + 0.1f * static_cast<float>(trial) + top) / (max - min), tried);
    float sum_l = 0, sum_l2 = 0, sum_xl = 0;
    for (int i = 0; i < n; ++i) {
      const float l = tried[i];
      sum_l += weight[i] * l;
      sum_l2 += weight[i] * l * l;
      sum_xl += weight[i] * l * x[i];
    }
    const float determinant = sum_w * sum_l2 - sum_l * sum_l;
    if (!(determinant > 0)) continue;
    float slope = (sum_w * sum_xl - sum_x * sum_l) / determinant;
    float offset = (sum_l2 * sum_x - sum_l * sum_xl) / determinant;
    if (offset > 0) {
      offset = 0;
      slope = sum_xl / sum_l2;
    }
    if (const float error = error_of(tried, slope, offset); error < best) {
      best = error;
      scale = slope;
      min = offset;
      std::copy_n(tried, n, codes);
    }
  }
  return {scale, -min};
}

void pack_scale_and_min(int j, int scale, int min, uint8_t* packed) {
  if (j < 4) {
    packed[j] = static_cast<uint8_t>(scale);
    packed[j + 4] = static_cast<uint8_t>(min);
  } else {
    packed[j + 4] = static_cast<uint8_t>((scale & 15) | (min & 15) << 4);
    packed[j - 4] |= static_cast<uint8_t>(scale >> 4 << 6);
    packed[j] |= static_cast<uint8_t>(min >> 4 << 6);
  }
}

/// Writes d, dmin and the packed scales (16 bytes) and fills the 256 codes.
void encode_affine(const float* x, const AffineSearch& search, uint8_t* header, uint8_t* codes) {
  Affine fit[8];
  float max_scale = 0, max_min = 0;
  for (int j = 0; j < 8; ++j) {
    fit[j] = fit_affine(x + 32 * j, search, codes + 32 * j);
    max_scale = std::max(max_scale, fit[j].scale);
    max_min = std::max(max_min, fit[j].min);
  }
  const float inverse_scale = max_scale > 0 ? 63 / max_scale : 0;
  const float inverse_min = max_min > 0 ? 63 / max_min : 0;
  uint8_t* const packed = header + 4;
  for (int j = 0; j < 8; ++j)
    pack_scale_and_min(j, nearest(inverse_scale * fit[j].scale, 0, 63),
                       nearest(inverse_min * fit[j].min, 0, 63), packed);
  store_half(max_scale / 63, header);
  store_half(max_min / 63, header + 2);

  // Codes once more, for the scales as they will be read back.
  for (int j = 0; j < 8; ++j) {
    const auto [scale, min] = unpack_scale_and_min(packed, j);
    const float d = load_half(header) * static_cast<float>(scale);
    if (d == 0) continue;
    const float offset = load_half(header + 2) * static_cast<float>(min);
    for (int i = 32 * j; i < 32 * (j + 1); ++i)
      codes[i] = static_cast<uint8_t>(nearest((x[i] + offset) / d, 0, search.top));
  }
}

void decode_affine(const uint8_t* header, const uint8_t* codes, float* x) {
  for (int j = 0; j < 8; ++j) {
    const auto [scale, min] = unpack_scale_and_min(header + 4, j);
    const float d = load_half(header) * static_cast<float>(scale);
    const float offset = load_half(header + 2) * static_cast<float>(min);
    for (int i = 32 * j; i < 32 * (j + 1); ++i) x[i] = d * codes[i] - offset;
  }
}

/// Of each 64 codes the first 32 lie in the low nibbles of 32 bytes, the others in the high ones.
void pack_nibbles(const uint8_t* codes, uint8_t* nibbles) {
  for (int i = 0; i < kValues / 2; ++i) {
    const uint8_t* pair = codes + i / 32 * 64 + i % 32;
    nibbles[i] = static_cast<uint8_t>((pair[0] & 15) | (pair[32] & 15) << 4);
  }
}

void unpack_nibbles(const uint8_t* nibbles, uint8_t* codes) {
  for (int i = 0; i < kValues / 2; ++i) {
    uint8_t* pair = codes + i / 32 * 64 + i % 32;
    pair[0] = nibbles[i] & 15;
    pair[32] = nibbles[i] >> 4;
  }
}

// ---- q6_K: 16 sub-blocks of 16, x ~ d * scale * (code - 32)

/// Fits 16 values by least squares weighted with their squares; codes 0..63 stand for -32..31.
float fit_symmetric(const float* x, uint8_t* codes) {
  constexpr int n = 16, zero = 32;
  float magnitude = 0, largest = 0;
  for (int i = 0; i < n; ++i) {
    if (std::fabs(x[i]) > magnitude) {
      magnitude = std::fabs(x[i]);
      largest = x[i];
    }
  }
  if (magnitude < kNothing) {
    std::fill_n(codes, n, uint8_t{0});
    return 0;
  }
  const auto encode = [&](float inverse) {
    for (int i = 0; i < n; ++i)
      codes[i] = static_cast<uint8_t>(nearest(inverse * x[i], -zero, zero - 1) + zero);
  };
  const auto sums = [&](float inverse, float& sum_xl, float& sum_l2) {
    sum_xl = sum_l2 = 0;
    for (int i = 0; i < n; ++i) {
      const auto l = static_cast<float>(nearest(inverse * x[i], -zero, zero - 1));
      const float weight = x[i] * x[i];
      sum_xl += weight * x[i] * l;
      sum_l2 += weight * l * l;
    }
  };

  float sum_xl, sum_l2, inverse = -static_cast<float>(zero) / largest;
  sums(inverse, sum_xl, sum_l2);
  float scale = sum_l2 != 0 ? sum_xl / sum_l2 : 0, best = scale * sum_xl, chosen = inverse;
  for (int trial = -9; trial <= 9; ++trial) {
    if (trial == 0) continue;
    inverse = -(static_cast<float>(zero) + 0.1f * static_cast<float>(trial)) / largest;
    sums(inverse, sum_xl, sum_l2);
    if (sum_l2 > 0 && sum_xl * sum_xl > best * sum_l2) {
      scale = sum_xl / sum_l2;
      best = scale * sum_xl;
      chosen = inverse;
    }
  }
  encode(chosen);
  return scale;
}

}  // namespace

// d, dmin, 12 bytes of scales, 128 of nibbles.
void encode_q4_K(const float* x, uint8_t* block) {
  uint8_t codes[kValues];
  encode_affine(x, kSearch4, block, codes);
  pack_nibbles(codes, block + 16);
}

void decode_q4_K(const uint8_t* block, float* x) {
  uint8_t codes[kValues];
  unpack_nibbles(block + 16, codes);
  decode_affine(block, codes, x);
}

// As q4_K, with 32 bytes of fifth bits before the nibbles: bit k of byte i is that of code 32k + i.
void encode_q5_K(const float* x, uint8_t* block) {
  uint8_t codes[kValues];
  encode_affine(x, kSearch5, block, codes);
  std::fill_n(block + 16, 32, uint8_t{0});
  for (int i = 0; i < kValues; ++i)
    block[16 + i % 32] |= static_cast<uint8_t>(codes[i] >> 4 << (i / 32));
  pack_nibbles(codes, block + 48);
}

void decode_q5_K(const uint8_t* block, float* x) {
  uint8_t codes[kValues];
  unpack_nibbles(block + 48, codes);
  for (int i = 0; i < kValues; ++i)
    codes[i] |= static_cast<uint8_t>((block[16 + i % 32] >> (i / 32) & 1) << 4);
  decode_affine(block, codes, x);
}

// 128 bytes of low nibbles, 64 of high bit pairs, 16 int8 scales, d. Each half of the block has 128
// codes in four groups of 32: groups 0 and 2 share bytes, 1 and 3 too; all four share the pairs.
void encode_q6_K(const float* x, uint8_t* block) {
  uint8_t codes[kValues];
  float scales[16], magnitude = 0, largest = 0;
  for (int j = 0; j < 16; ++j) {
    scales[j] = fit_symmetric(x + 16 * j, codes + 16 * j);
    if (std::fabs(scales[j]) > magnitude) {
      magnitude = std::fabs(scales[j]);
      largest = scales[j];
    }
  }
  std::fill_n(block, 210, uint8_t{0});
  if (magnitude < kNothing) return;
  const float inverse = -128.0f / largest;
  store_half(1 / inverse, block + 208);
  for (int j = 0; j < 16; ++j) {
    const int scale = nearest(inverse * scales[j], -128, 127);
    block[192 + j] = static_cast<uint8_t>(scale);
    const float d = load_half(block + 208) * static_cast<float>(scale);
    if (d == 0) continue;
    for (int i = 16 * j; i < 16 * (j + 1); ++i)
      codes[i] = static_cast<uint8_t>(nearest(x[i] / d, -32, 31) + 32);
  }
  for (int i = 0; i < kValues; ++i) {
    const int half = i / 128, group = i % 128 / 32, at = i % 32;
    block[64 * half + 32 * (group % 2) + at] |=
        static_cast<uint8_t>((codes[i] & 15) << 4 * (group / 2));
    block[128 + 32 * half + at] |= static_cast<uint8_t>(codes[i] >> 4 << 2 * group);
  }
}

void decode_q6_K(const uint8_t* block, float* x) {
  const float d = load_half(block + 208);
  for (int i = 0; i < kValues; ++i) {
    const int half = i / 128, group = i % 128 / 32, at = i % 32;
    const int low = block[64 * half + 32 * (group % 2) + at] >> 4 * (group / 2) & 15;
    const int high = block[128 + 32 * half + at] >> 2 * group & 3;
    const auto scale = static_cast<float>(static_cast<int8_t>(block[192 + i / 16]));
    x[i] = d * scale * static_cast<float>((low | high << 4) - 32);
  }
}

}  // namespace cajal::blocks
