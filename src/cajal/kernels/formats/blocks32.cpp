// Blocks of 32 values: one fp16 scale, in q4_1 and q5_1 also an fp16 minimum. 4-bit codes lie in 16
// bytes, code j in the low and code j + 16 in the high nibble of byte j; fifth bits in 4 bytes
// before.
#include <cmath>

#include "cajal/kernels/formats/blocks.h"

namespace cajal::blocks {
namespace {

constexpr int kValues = 32;

float inverse(float scale) { return scale != 0 ? 1 / scale : 0; }

/// The value of largest magnitude with its sign, the first where there are several.
float largest(const float* x) {
  float magnitude = 0, value = 0;
  for (int i = 0; i < kValues; ++i) {
    if (std::fabs(x[i]) > magnitude) {
      magnitude = std::fabs(x[i]);
      value = x[i];
    }
  }
  return value;
}

void pack_nibbles(const uint8_t* codes, uint8_t* nibbles) {
  for (int j = 0; j < 16; ++j)
    nibbles[j] = static_cast<uint8_t>((codes[j] & 15) | (codes[j + 16] & 15) << 4);
}

void unpack_nibbles(const uint8_t* nibbles, uint8_t* codes) {
  for (int j = 0; j < 16; ++j) {
    codes[j] = nibbles[j] & 15;
    codes[j + 16] = nibbles[j] >> 4;
  }
}

void pack_fifth_bits(const uint8_t* codes, uint8_t* bits) {
  uint32_t all = 0;
  for (int j = 0; j < kValues; ++j) all |= uint32_t{codes[j]} >> 4 << j;
  std::memcpy(bits, &all, sizeof all);
}

void add_fifth_bits(const uint8_t* bits, uint8_t* codes) {
  uint32_t all;
  std::memcpy(&all, bits, sizeof all);
  for (int j = 0; j < kValues; ++j) codes[j] |= static_cast<uint8_t>((all >> j & 1) << 4);
}

/// x ~ scale * (code - zero): the largest magnitude gets code 0. Returns the scale.
float symmetric_codes(const float* x, int zero, uint8_t* codes) {
  const float scale = largest(x) / static_cast<float>(-zero), id = inverse(scale);
  const float offset = static_cast<float>(zero) + 0.5f;
  for (int j = 0; j < kValues; ++j)
    codes[j] = static_cast<uint8_t>(to_int(x[j] * id + offset, 0, 2 * zero - 1));
  return scale;
}

struct Affine {
  float scale, min;
};

/// x ~ scale * code + min with codes 0..top.
Affine affine_codes(const float* x, int top, uint8_t* codes) {
  const float min = *std::min_element(x, x + kValues);
  const float max = *std::max_element(x, x + kValues);
  const float scale = (max - min) / static_cast<float>(top), id = inverse(scale);
  for (int j = 0; j < kValues; ++j)
    codes[j] = static_cast<uint8_t>(to_int((x[j] - min) * id + 0.5f, 0, top));
  return {scale, min};
}

void symmetric_values(const uint8_t* codes, float scale, int zero, float* x) {
  for (int j = 0; j < kValues; ++j) x[j] = static_cast<float>(codes[j] - zero) * scale;
}

void affine_values(const uint8_t* codes, float scale, float min, float* x) {
  for (int j = 0; j < kValues; ++j) x[j] = static_cast<float>(codes[j]) * scale + min;
}

}  // namespace

void encode_q8_0(const float* x, uint8_t* block) {
  const float scale = std::fabs(largest(x)) / 127, id = inverse(scale);
  store_half(scale, block);
  for (int j = 0; j < kValues; ++j)
    block[2 + j] = static_cast<uint8_t>(to_int(std::round(x[j] * id), -128, 127));
}

void decode_q8_0(const uint8_t* block, float* x) {
  const float scale = load_half(block);
  for (int j = 0; j < kValues; ++j)
    x[j] = static_cast<float>(static_cast<int8_t>(block[2 + j])) * scale;
}

void encode_q4_0(const float* x, uint8_t* block) {
  uint8_t codes[kValues];
  store_half(symmetric_codes(x, 8, codes), block);
  pack_nibbles(codes, block + 2);
}

void decode_q4_0(const uint8_t* block, float* x) {
  uint8_t codes[kValues];
  unpack_nibbles(block + 2, codes);
  symmetric_values(codes, load_half(block), 8, x);
}

void encode_q4_1(const float* x, uint8_t* block) {
  uint8_t codes[kValues];
  const auto [scale, min] = affine_codes(x, 15, codes);
  store_half(scale, block);
  store_half(min, block + 2);
  pack_nibbles(codes, block + 4);
}

void decode_q4_1(const uint8_t* block, float* x) {
  uint8_t codes[kValues];
  unpack_nibbles(block + 4, codes);
  affine_values(codes, load_half(block), load_half(block + 2), x);
}

void encode_q5_0(const float* x, uint8_t* block) {
  uint8_t codes[kValues];
  store_half(symmetric_codes(x, 16, codes), block);
  pack_fifth_bits(codes, block + 2);
  pack_nibbles(codes, block + 6);
}

void decode_q5_0(const uint8_t* block, float* x) {
  uint8_t codes[kValues];
  unpack_nibbles(block + 6, codes);
  add_fifth_bits(block + 2, codes);
  symmetric_values(codes, load_half(block), 16, x);
}

void encode_q5_1(const float* x, uint8_t* block) {
  uint8_t codes[kValues];
  const auto [scale, min] = affine_codes(x, 31, codes);
  store_half(scale, block);
  store_half(min, block + 2);
  pack_fifth_bits(codes, block + 4);
  pack_nibbles(codes, block + 8);
}

void decode_q5_1(const uint8_t* block, float* x) {
  uint8_t codes[kValues];
  unpack_nibbles(block + 8, codes);
  add_fifth_bits(block + 4, codes);
  affine_values(codes, load_half(block), load_half(block + 2), x);
}

}  // namespace cajal::blocks
