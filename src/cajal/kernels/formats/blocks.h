#pragma once
#include <algorithm>
#include <cstdint>
#include <cstring>

#include "cajal/kernels/formats/half.h"

/// One block of each quantised format: float values to bytes and back. All arithmetic is in single
/// precision in the order written, without fused multiply-add, because the bytes depend on it.
namespace cajal::blocks {

void encode_q8_0(const float* x, uint8_t* block);
void encode_q4_0(const float* x, uint8_t* block);
void encode_q4_1(const float* x, uint8_t* block);
void encode_q5_0(const float* x, uint8_t* block);
void encode_q5_1(const float* x, uint8_t* block);
void encode_q4_K(const float* x, uint8_t* block);
void encode_q5_K(const float* x, uint8_t* block);
void encode_q6_K(const float* x, uint8_t* block);

void decode_q8_0(const uint8_t* block, float* x);
void decode_q4_0(const uint8_t* block, float* x);
void decode_q4_1(const uint8_t* block, float* x);
void decode_q5_0(const uint8_t* block, float* x);
void decode_q5_1(const uint8_t* block, float* x);
void decode_q4_K(const uint8_t* block, float* x);
void decode_q5_K(const uint8_t* block, float* x);
void decode_q6_K(const uint8_t* block, float* x);

inline float load_half(const uint8_t* at) {
  uint16_t half;
  std::memcpy(&half, at, sizeof half);
  return half_to_float(half);
}

inline void store_half(float value, uint8_t* at) {
  const uint16_t half = float_to_half(value);
  std::memcpy(at, &half, sizeof half);
}

/// The 6-bit scale and minimum of sub-block `j` (0..7) in the 12 packed bytes of q4_K and q5_K.
struct ScaleAndMin {
  int scale, min;
};
inline ScaleAndMin unpack_scale_and_min(const uint8_t* packed, int j) {
  if (j < 4) return {packed[j] & 63, packed[j + 4] & 63};
  return {(packed[j + 4] & 15) | ((packed[j - 4] >> 6) << 4),
          (packed[j + 4] >> 4) | ((packed[j] >> 6) << 4)};
}

/// An integer in [low, high]; a float to integer conversion that is defined for every float.
inline int to_int(float value, int low, int high) {
  if (!(value > static_cast<float>(low))) return low;
  return value < static_cast<float>(high) ? static_cast<int>(value) : high;
}

/// Nearest integer, ties to even, within [low, high]: adding 1.5 * 2^23 leaves no fraction bits.
inline int nearest(float value, int low, int high) {
  constexpr float shift = 12582912.0f;
  return to_int(value + shift - shift, low, high);
}

}  // namespace cajal::blocks
