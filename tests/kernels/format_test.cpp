#include "cajal/kernels/formats/format.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>

#include "cajal/core/files.h"
#include "cajal/core/random.h"
#include "cajal/core/tensors.h"
#include "cajal/kernels/formats/half.h"

namespace cajal {
namespace {

constexpr Format kQuantised[] = {Format::q8_0, Format::q4_0, Format::q4_1, Format::q5_0,
                                 Format::q5_1, Format::q4_K, Format::q5_K, Format::q6_K};
constexpr int64_t kWidth = 256;

const TensorFile& reference() {
  static const auto file = TensorFile::open(CAJAL_TEST_GOLDEN "/kernels/blocks.safetensors");
  return file;
}

const float* row_of(const StoredTensor& tensor, int64_t row) {
  return reinterpret_cast<const float*>(tensor.bytes.data()) + row * kWidth;
}

/// Rows of domain 0 whose bytes differ; the others are encoded too, to see that they do no harm.
std::vector<int64_t> rows_encoded_otherwise(const TensorFile& file, Format format) {
  const auto& input = file.at("input");
  const auto& bytes = file.at(to_name(format) + ".bytes");
  const auto& domain = file.at(to_name(format) + ".domain");
  const auto size = static_cast<size_t>(row_bytes(format, kWidth));
  std::vector<int64_t> wrong;
  std::vector<std::byte> row(size);
  for (int64_t r = 0; r < input.shape[0]; ++r) {
    encode_row(format, row_of(input, r), kWidth, row.data());
    if (domain.bytes[r] == std::byte{0} &&
        std::memcmp(row.data(), bytes.bytes.data() + r * size, size) != 0)
      wrong.push_back(r);
  }
  return wrong;
}

bool same_bits_or_both_nan(float a, float b) {
  return std::bit_cast<uint32_t>(a) == std::bit_cast<uint32_t>(b) ||
         (std::isnan(a) && std::isnan(b));
}

std::vector<int64_t> rows_decoded_otherwise(const TensorFile& file, Format format) {
  const auto& bytes = file.at(to_name(format) + ".bytes");
  const auto& decoded = file.at(to_name(format) + ".decoded");
  std::vector<int64_t> wrong;
  float values[kWidth];
  for (int64_t r = 0; r < decoded.shape[0]; ++r) {
    decode_row(format, bytes.bytes.data() + r * row_bytes(format, kWidth), kWidth, values);
    if (!std::equal(values, values + kWidth, row_of(decoded, r), same_bits_or_both_nan))
      wrong.push_back(r);
  }
  return wrong;
}

class QuantisedFormat : public testing::TestWithParam<Format> {};

TEST_P(QuantisedFormat, EncodesTheBytesOfTheReference) {
  EXPECT_EQ(rows_encoded_otherwise(reference(), GetParam()), std::vector<int64_t>());
}

TEST_P(QuantisedFormat, DecodesTheBitsOfTheReference) {
  EXPECT_EQ(rows_decoded_otherwise(reference(), GetParam()), std::vector<int64_t>());
}

TEST_P(QuantisedFormat, AgreesWithEveryRowOfTheLargeReference) {
  const char* folder = std::getenv("CAJAL_GOLDEN");
  if (!folder) GTEST_SKIP() << "CAJAL_GOLDEN is not set: no blocks/blocks.safetensors";
  const auto file = TensorFile::open(std::string(folder) + "/blocks/blocks.safetensors");
  EXPECT_EQ(rows_encoded_otherwise(file, GetParam()), std::vector<int64_t>());
  EXPECT_EQ(rows_decoded_otherwise(file, GetParam()), std::vector<int64_t>());
}

TEST_P(QuantisedFormat, EncodesInfinitiesAndNansToBlocksThatDecode) {
  std::vector<float> values(kWidth, 1.0f), decoded(kWidth, -1.0f);
  values[3] = std::numeric_limits<float>::infinity();
  values[40] = std::numeric_limits<float>::quiet_NaN();
  values[90] = -std::numeric_limits<float>::max();
  std::vector<uint8_t> row(row_bytes(GetParam(), kWidth) + 1, 0xaa);
  encode_row(GetParam(), values.data(), kWidth, row.data());
  decode_row(GetParam(), row.data(), kWidth, decoded.data());
  EXPECT_EQ(row.back(), 0xaa);
}

TEST_P(QuantisedFormat, EncodesBlocksIndependently) {
  Random random(7);
  std::vector<float> values(2 * kWidth);
  for (auto& value : values) value = static_cast<float>(random.normal());
  const auto size = row_bytes(GetParam(), kWidth);
  std::vector<uint8_t> together(2 * size), second(size);
  encode_row(GetParam(), values.data(), 2 * kWidth, together.data());
  encode_row(GetParam(), values.data() + kWidth, kWidth, second.data());
  EXPECT_TRUE(std::equal(second.begin(), second.end(), together.begin() + size));
}

INSTANTIATE_TEST_SUITE_P(All, QuantisedFormat, testing::ValuesIn(kQuantised),
                         [](const auto& info) { return to_name(info.param); });

TEST(Format, HasTheBlockSizesOfGguf) {
  EXPECT_EQ(row_bytes(Format::f32, 40), 160);
  EXPECT_EQ(row_bytes(Format::bf16, 40), 80);
  const int64_t expected[] = {272, 144, 160, 176, 192, 144, 176, 210};
  for (size_t i = 0; i < std::size(kQuantised); ++i)
    EXPECT_EQ(row_bytes(kQuantised[i], 256), expected[i]) << to_name(kQuantised[i]);
  EXPECT_EQ(bits_per_value(Format::q4_0), 4.5);
}

TEST(Format, RefusesAWidthThatCutsABlock) {
  try {
    require_row(Format::q4_K, 320, "blk.0.ffn_up.weight");
    FAIL();
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(),
                 "blk.0.ffn_up.weight: a row of q4_K has width 320, expected a multiple of 256");
  }
  EXPECT_THROW(require_row(Format::q8_0, 0, "x"), Error);
  EXPECT_NO_THROW(require_row(Format::f16, 7, "x"));
}

/// The binary16 value by its definition, in double precision.
double half_by_definition(uint16_t half) {
  const int exponent = half >> 10 & 31, fraction = half & 1023;
  const double sign = half & 0x8000 ? -1 : 1;
  if (exponent == 31) return fraction ? NAN : sign * INFINITY;
  return sign *
         (exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25));
}

TEST(Half, DecodesEveryValueByItsDefinition) {
  for (int half = 0; half < 65536; ++half) {
    const auto expected = static_cast<float>(half_by_definition(static_cast<uint16_t>(half)));
    ASSERT_TRUE(same_bits_or_both_nan(half_to_float(static_cast<uint16_t>(half)), expected))
        << half;
  }
}

TEST(Half, EncodesEveryValueAndEveryMidpointToTheNearestEven) {
  for (int half = 0; half < 0x7c00; ++half) {
    const auto low = static_cast<uint16_t>(half), high = static_cast<uint16_t>(half + 1);
    const float value = half_to_float(low);
    // The value after the largest one, 65504, would be 65536.
    const float next = half == 0x7bff ? 65536.0f : half_to_float(high);
    const float middle = (value + next) / 2;
    const uint16_t even = half % 2 ? high : low;
    ASSERT_EQ(float_to_half(value), low);
    ASSERT_EQ(float_to_half(-value), low | 0x8000);
    ASSERT_EQ(float_to_half(middle), even);
    ASSERT_EQ(float_to_half(std::nextafter(middle, 0.0f)), low);
    ASSERT_EQ(float_to_half(std::nextafter(middle, 1e9f)), high);
  }
  EXPECT_EQ(float_to_half(INFINITY), 0x7c00);
  EXPECT_TRUE(std::isnan(half_to_float(float_to_half(NAN))));
}

TEST(Bfloat16, EncodesEveryValueAndEveryMidpointToTheNearestEven) {
  for (int i = 0; i < 0x7f80; ++i) {
    const auto low = static_cast<uint16_t>(i), high = static_cast<uint16_t>(i + 1);
    const uint32_t middle = (uint32_t{low} << 16) + 0x8000;
    ASSERT_EQ(float_to_bf16(bf16_to_float(low)), low);
    ASSERT_EQ(float_to_bf16(-bf16_to_float(low)), low | 0x8000);
    ASSERT_EQ(float_to_bf16(std::bit_cast<float>(middle)), i % 2 ? high : low);
    ASSERT_EQ(float_to_bf16(std::bit_cast<float>(middle - 1)), low);
    ASSERT_EQ(float_to_bf16(std::bit_cast<float>(middle + 1)), high);
  }
  EXPECT_EQ(float_to_bf16(INFINITY), 0x7f80);
  EXPECT_TRUE(std::isnan(bf16_to_float(float_to_bf16(std::bit_cast<float>(0x7f800001u)))));
}

}  // namespace
}  // namespace cajal
