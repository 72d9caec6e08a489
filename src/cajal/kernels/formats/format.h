#pragma once
#include <cstdint>
#include <string_view>

#include "cajal/core/options.h"

namespace cajal {

/// How a row of weights is stored. The quantised formats are ggml's blocks, byte for byte, as they
/// lie in a GGUF file: one after the other, with no space between.
enum class Format { f32, f16, bf16, q8_0, q4_0, q4_1, q5_0, q5_1, q4_K, q5_K, q6_K };

/// Values in one block: a row's width is a multiple of it. 1 where values stand alone.
int block_values(Format format);

/// Bytes of one block.
int block_bytes(Format format);

/// Bytes of a row of `width` values that `require_row` accepts.
inline int64_t row_bytes(Format format, int64_t width) {
  return width / block_values(format) * block_bytes(format);
}

/// Bits a value, scales included: 4.5 for q4_0.
inline double bits_per_value(Format format) {
  return 8.0 * block_bytes(format) / block_values(format);
}

/// Whether values share the scale of a block.
inline bool is_quantised(Format format) { return block_values(format) > 1; }

/// Throws Error that starts with `where` unless `width` is positive and a multiple of the block.
void require_row(Format format, int64_t width, std::string_view where);

/// Writes `width` values as row_bytes(format, width) bytes, with the bytes of ggml's reference
/// encoders wherever C defines those; other input (not finite, quotients out of range) gives some
/// valid blocks. f16 and bf16 round to nearest even.
void encode_row(Format format, const float* values, int64_t width, void* row);

/// The `width` values of a row, with the bits of ggml's reference decoders.
void decode_row(Format format, const void* row, int64_t width, float* values);

}  // namespace cajal

CAJAL_ENUM(cajal::Format, {cajal::Format::f32, "f32"}, {cajal::Format::f16, "f16"},
           {cajal::Format::bf16, "bf16"}, {cajal::Format::q8_0, "q8_0"},
           {cajal::Format::q4_0, "q4_0"}, {cajal::Format::q4_1, "q4_1"},
           {cajal::Format::q5_0, "q5_0"}, {cajal::Format::q5_1, "q5_1"},
           {cajal::Format::q4_K, "q4_K"}, {cajal::Format::q5_K, "q5_K"},
           {cajal::Format::q6_K, "q6_K"})
