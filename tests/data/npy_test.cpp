#include "cajal/data/npy.h"

#include <gtest/gtest.h>

#include "core/scratch.h"
#include "says.h"

namespace cajal::data {
namespace {
using namespace std::string_literals;

using Npy = Scratch;

std::string npy(std::string header, const std::string& data, char version = 1) {
  header += '\n';
  std::string out = "\x93NUMPY"s + version + '\0';
  out += static_cast<char>(header.size() & 0xff);
  out += static_cast<char>(header.size() >> 8);
  if (version > 1) out += "\0\0"s;
  return out + header + data;
}

std::string header(const std::string& descr, const std::string& shape,
                   const char* order = "False") {
  return "{'descr': '" + descr + "', 'fortran_order': " + order + ", 'shape': " + shape + ", }";
}

std::string refusal(const std::string& bytes) {
  return error_of([&] { parse_npy(bytes, "x"); });
}

TEST_F(Npy, ReadsVersionsOneToThree) {
  for (const char version : {1, 2, 3}) {
    const auto array =
        parse_npy(npy(header("<f4", "(1, 2)"), "\0\0\xc0\x3f\0\0\0\0"s, version), "x");
    EXPECT_EQ(array.shape, (std::vector<int64_t>{1, 2}));
    EXPECT_EQ(array.values<float>()[0], 1.5f);
  }
}

TEST_F(Npy, ReadsEveryTypeItSays) {
  for (const auto& [descr, size] : {std::pair{"<f8", 8},
                                    {"<i8", 8},
                                    {"<i4", 4},
                                    {"<i2", 2},
                                    {"|i1", 1},
                                    {"|u1", 1},
                                    {"|b1", 1}})
    EXPECT_EQ(parse_npy(npy(header(descr, "(3,)"), std::string(3 * size, '\0')), "x").count(), 3)
        << descr;
}

TEST_F(Npy, TurnsFortranOrderToRowMajor) {
  const auto array = parse_npy(npy(header("|u1", "(2, 3)", "True"), "adbecf"), "x");
  const auto values = array.values<uint8_t>();
  EXPECT_EQ(std::string(values.begin(), values.end()), "abcdef");
}

TEST_F(Npy, ReadsAScalarAndAnEmptyArray) {
  EXPECT_EQ(parse_npy(npy(header("|u1", "()"), "a"), "x").count(), 1);
  EXPECT_EQ(parse_npy(npy(header("<f8", "(0, 999999999999)", "True"), ""), "x").count(), 0);
}

TEST_F(Npy, ReadsWhatItWrites) {
  Array array{{3}, Dtype::i32, {}};
  for (int i = 0; i < 12; ++i) array.bytes.push_back(static_cast<std::byte>(i));
  write_npy(in("a.npy"), array);
  const auto back = read_npy(in("a.npy"));
  EXPECT_EQ(back.shape, array.shape);
  EXPECT_EQ(back.bytes, array.bytes);
  EXPECT_EQ(read_file(in("a.npy")).find('\n') % 64, 63u);
}

TEST_F(Npy, RefusesEveryTruncation) {
  const auto whole = npy(header("<f4", "(1, 2)"), "12345678");
  for (size_t size = 0; size < whole.size(); ++size)
    EXPECT_NE(refusal(whole.substr(0, size)), "") << size;
}

TEST_F(Npy, RefusesHostileShapes) {
  EXPECT_TRUE(
      says(refusal(npy(header("<f8", "(4294967296, 4294967296, 4294967296)"), "")), "too large"));
  EXPECT_TRUE(says(refusal(npy(header("<f8", "(-1,)"), "")), "size expected"));
  EXPECT_TRUE(says(refusal(npy(header("<f8", "(99999999999999999999,)"), "")), "size expected"));
  std::string many = "(";
  for (int i = 0; i < 40; ++i) many += "1, ";
  EXPECT_TRUE(says(refusal(npy(header("|u1", many + ")"), "a")), "axes"));
}

TEST_F(Npy, RefusesObjectsAndOtherByteOrders) {
  for (const auto* descr : {"|O", ">f4", "<c8", "<U4"})
    EXPECT_TRUE(says(refusal(npy(header(descr, "(1,)"), "12345678")), "is not one of")) << descr;
  EXPECT_TRUE(
      says(refusal(npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}", "1234")),
           "quoted name expected"));
}

TEST_F(Npy, RefusesMalformedHeaders) {
  for (const auto* text :
       {"", "{", "{}", "{'descr': '<f4'}", "{'descr': '<f4', 'descr': '<f4'}",
        "{'descr' '<f4', 'fortran_order': False, 'shape': ()}", "{'shape': (1 2)}", "{'shape': (1,",
        "{'descr': '<f4", "{'fortran_order': 1}", "{'evil': exit()}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1,)} trailing"})
    EXPECT_NE(refusal(npy(text, "1234")), "") << text;
}

TEST_F(Npy, RefusesBytesBehindTheData) {
  EXPECT_TRUE(says(refusal(npy(header("|u1", "(1,)"), "ab")),
                   "2 bytes of data, but shape [1] of U8 takes 1"));
}

TEST_F(Npy, RefusesToWriteBytesThatDoNotFillTheShape) {
  const Array array{{3}, Dtype::i32, std::vector<std::byte>(16)};
  EXPECT_TRUE(says(error_of([&] { write_npy(in("a.npy"), array); }), "takes 12"));
  EXPECT_EQ(entries(), 0u);
}

}  // namespace
}  // namespace cajal::data
