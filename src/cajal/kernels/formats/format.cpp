#include "cajal/kernels/formats/format.h"

#include "cajal/kernels/formats/blocks.h"

namespace cajal {
namespace {

void encode_f32(const float* x, uint8_t* at) { std::memcpy(at, x, sizeof *x); }
void decode_f32(const uint8_t* at, float* x) { std::memcpy(x, at, sizeof *x); }
void encode_f16(const float* x, uint8_t* at) { blocks::store_half(*x, at); }
void decode_f16(const uint8_t* at, float* x) { *x = blocks::load_half(at); }

void encode_bf16(const float* x, uint8_t* at) {
  const uint16_t value = float_to_bf16(*x);
  std::memcpy(at, &value, sizeof value);
}

void decode_bf16(const uint8_t* at, float* x) {
  uint16_t value;
  std::memcpy(&value, at, sizeof value);
  *x = bf16_to_float(value);
}

struct Layout {
  int values, bytes;
  void (*encode)(const float* x, int64_t blocks, uint8_t* row);
  void (*decode)(const uint8_t* row, int64_t blocks, float* x);
};

template <int values, int bytes, auto encode, auto decode>
constexpr Layout kLayout{values, bytes,
                         [](const float* x, int64_t blocks, uint8_t* row) {
                           for (int64_t i = 0; i < blocks; ++i)
                             encode(x + i * values, row + i * bytes);
                         },
                         [](const uint8_t* row, int64_t blocks, float* x) {
                           for (int64_t i = 0; i < blocks; ++i)
                             decode(row + i * bytes, x + i * values);
                         }};

const Layout& layout(Format format) {
  using namespace blocks;
  switch (format) {
    case Format::f32:
      return kLayout<1, 4, encode_f32, decode_f32>;
    case Format::f16:
      return kLayout<1, 2, encode_f16, decode_f16>;
    case Format::bf16:
      return kLayout<1, 2, encode_bf16, decode_bf16>;
    case Format::q8_0:
      return kLayout<32, 34, encode_q8_0, decode_q8_0>;
    case Format::q4_0:
      return kLayout<32, 18, encode_q4_0, decode_q4_0>;
    case Format::q4_1:
      return kLayout<32, 20, encode_q4_1, decode_q4_1>;
    case Format::q5_0:
      return kLayout<32, 22, encode_q5_0, decode_q5_0>;
    case Format::q5_1:
      return kLayout<32, 24, encode_q5_1, decode_q5_1>;
    case Format::q4_K:
      return kLayout<256, 144, encode_q4_K, decode_q4_K>;
    case Format::q5_K:
      return kLayout<256, 176, encode_q5_K, decode_q5_K>;
    case Format::q6_K:
      return kLayout<256, 210, encode_q6_K, decode_q6_K>;
  }
  fail("unknown format {}", static_cast<int>(format));
}

}  // namespace

int block_values(Format format) { return layout(format).values; }
int block_bytes(Format format) { return layout(format).bytes; }

void require_row(Format format, int64_t width, std::string_view where) {
  const int values = block_values(format);
  require(width > 0, "{}: a row of {} has width {}, expected at least {}", where, to_name(format),
          width, values);
  require(width % values == 0, "{}: a row of {} has width {}, expected a multiple of {}", where,
          to_name(format), width, values);
}

void encode_row(Format format, const float* values, int64_t width, void* row) {
  layout(format).encode(values, width / block_values(format), static_cast<uint8_t*>(row));
}

void decode_row(Format format, const void* row, int64_t width, float* values) {
  layout(format).decode(static_cast<const uint8_t*>(row), width / block_values(format), values);
}

}  // namespace cajal
