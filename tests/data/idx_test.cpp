#include "cajal/data/idx.h"

#include <gtest/gtest.h>
#include <zlib.h>

#include "core/scratch.h"
#include "says.h"

namespace cajal::data {
namespace {
using namespace std::string_literals;

using Idx = Scratch;

std::string gzip(const std::string& text) {
  z_stream stream{};
  deflateInit2(&stream, 9, Z_DEFLATED, 16 + MAX_WBITS, 9, Z_DEFAULT_STRATEGY);
  std::string out(deflateBound(&stream, text.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  deflate(&stream, Z_FINISH);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

TEST_F(Idx, ReadsBytesOfTwoAxes) {
  const auto array = parse_idx("\0\0\x08\2\0\0\0\2\0\0\0\3abcdef"s, "x");
  EXPECT_EQ(array.shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(array.values<uint8_t>()[5], 'f');
}

TEST_F(Idx, ReadsBigEndianNumbersOfEveryType) {
  EXPECT_EQ(parse_idx("\0\0\x09\1\0\0\0\1\xff"s, "x").values<int8_t>()[0], -1);
  EXPECT_EQ(parse_idx("\0\0\x0B\1\0\0\0\1\xff\xfe"s, "x").values<int16_t>()[0], -2);
  EXPECT_EQ(parse_idx("\0\0\x0C\1\0\0\0\1\0\1\0\0"s, "x").values<int32_t>()[0], 65536);
  EXPECT_EQ(parse_idx("\0\0\x0D\1\0\0\0\1\x3f\xc0\0\0"s, "x").values<float>()[0], 1.5f);
  EXPECT_EQ(parse_idx("\0\0\x0E\1\0\0\0\1\xbf\xf8\0\0\0\0\0\0"s, "x").values<double>()[0], -1.5);
}

TEST_F(Idx, ReadsGzipd) {
  const auto path = put("f.gz", gzip("\0\0\x08\1\0\0\0\3abc"s));
  EXPECT_EQ(read_idx(path).count(), 3);
}

TEST_F(Idx, ReadsAnEmptyArray) {
  EXPECT_EQ(parse_idx("\0\0\x08\2\0\0\0\0\xff\xff\xff\xff"s, "x").count(), 0);
}

TEST_F(Idx, RefusesEveryTruncation) {
  const auto whole = "\0\0\x0C\2\0\0\0\2\0\0\0\1abcdefgh"s;
  for (size_t size = 0; size < whole.size(); ++size)
    EXPECT_NE(error_of([&] { parse_idx(whole.substr(0, size), "x"); }), "") << size;
}

TEST_F(Idx, RefusesBytesBehindTheData) {
  EXPECT_TRUE(says(error_of([] { parse_idx("\0\0\x08\1\0\0\0\1ab"s, "x"); }),
                   "2 bytes of data, but shape [1] of U8 takes 1"));
}

TEST_F(Idx, RefusesASizeWhoseProductOverflows) {
  const auto huge = "\0\0\x0E\3\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"s;
  EXPECT_TRUE(says(error_of([&] { parse_idx(huge, "x"); }), "too large"));
}

TEST_F(Idx, RefusesUnknownTypesAxesAndMagic) {
  EXPECT_TRUE(says(error_of([] { parse_idx("\0\0\x0A\1\0\0\0\1a"s, "x"); }), "IDX type 0x0a"));
  EXPECT_TRUE(says(error_of([] { parse_idx("\0\0\x08\0"s, "x"); }), "0 axes"));
  EXPECT_TRUE(says(error_of([] { parse_idx("\0\0\x08\xff"s, "x"); }), "255 axes"));
  EXPECT_TRUE(says(error_of([] { parse_idx("PNG!whatever"s, "x"); }), "not an IDX file"));
}

TEST_F(Idx, SaysWhichTypeItHoldsWhenAskedForAnother) {
  const auto array = parse_idx("\0\0\x08\1\0\0\0\1a"s, "x");
  EXPECT_TRUE(says(error_of([&] { array.values<float>(); }), "holds U8, not F32"));
}

}  // namespace
}  // namespace cajal::data
