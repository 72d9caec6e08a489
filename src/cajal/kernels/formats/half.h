#pragma once
#include <bit>
#include <cstdint>

namespace cajal {

/// IEEE binary16 -> binary32, exact; a NaN keeps its payload.
constexpr float half_to_float(uint16_t half) {
  const uint32_t sign = uint32_t{half & 0x8000u} << 16, magnitude = uint32_t{half & 0x7fffu} << 13;
  if (magnitude >= 0x0f800000) return std::bit_cast<float>(sign | 0x70000000 | magnitude);
  constexpr uint32_t smallest_normal = 113u << 23;  // 2^-14
  if (magnitude >= 0x00800000)
    return std::bit_cast<float>(sign | (magnitude + smallest_normal - 0x00800000));
  const float value = std::bit_cast<float>(smallest_normal + magnitude) - 0x1p-14f;
  return sign ? -value : value;
}

/// binary32 -> IEEE binary16, round to nearest even; past 65520 infinity, NaN becomes a quiet NaN.
constexpr uint16_t float_to_half(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value), magnitude = bits & 0x7fffffff;
  const uint32_t sign = (bits >> 16) & 0x8000;
  if (magnitude > 0x7f800000) return static_cast<uint16_t>(sign | 0x7e00);
  if (magnitude >= 0x477ff000) return static_cast<uint16_t>(sign | 0x7c00);
  if (magnitude < 0x38800000)  // subnormal: the sum rounds to multiples of 2^-24
    return static_cast<uint16_t>(
        sign | (std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) + 0.5f) - 0x3f000000));
  const uint32_t rounded = magnitude + 0xfff + ((magnitude >> 13) & 1);
  return static_cast<uint16_t>(sign | ((rounded - (112u << 23)) >> 13));
}

/// bfloat16 -> binary32, exact.
constexpr float bf16_to_float(uint16_t value) {
  return std::bit_cast<float>(uint32_t{value} << 16);
}

/// binary32 -> bfloat16, round to nearest even; NaN stays NaN.
constexpr uint16_t float_to_bf16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffff) > 0x7f800000) return static_cast<uint16_t>((bits >> 16) | 0x40);
  return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

}  // namespace cajal
