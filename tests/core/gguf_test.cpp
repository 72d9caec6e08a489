#include "cajal/core/gguf.h"

#include <cmath>
#include <cstring>
#include <limits>

#include "core/scratch.h"

namespace cajal {
namespace {

/// A GGUF file put together by hand, sound unless a test makes it otherwise.
class Bytes {
 public:
  template <class T>
  Bytes& put(T value) {
    text.append(reinterpret_cast<const char*>(&value), sizeof value);
    return *this;
  }
  Bytes& name(std::string_view name) {
    put(static_cast<uint64_t>(name.size()));
    text += name;
    return *this;
  }
  Bytes& head(uint64_t tensors, uint64_t settings, uint32_t version = 3) {
    text += "GGUF";
    return put(version).put(tensors).put(settings);
  }
  Bytes& integer(std::string_view key, uint32_t value) { return name(key).put(4u).put(value); }
  Bytes& tensor(std::string_view key, std::initializer_list<uint64_t> sizes, uint32_t type,
                uint64_t offset) {
    name(key).put(static_cast<uint32_t>(sizes.size()));
    for (const auto size : sizes) put(size);
    return put(type).put(offset);
  }
  Bytes& data(size_t bytes) {
    text.resize((text.size() + 31) / 32 * 32, '\0');
    text.append(bytes, '\1');
    return *this;
  }

  std::string text;
};

Gguf parse(const Bytes& bytes) {
  return Gguf::parse(std::as_bytes(std::span(bytes.text)), "x.gguf");
}
std::string said_of(const Bytes& bytes) {
  return error_of([&] { parse(bytes); }, "x.gguf: ");
}

TEST(Gguf, ReadsSettingsOfEveryKind) {
  Bytes file;
  file.head(0, 4).integer("a", 7).name("b").put(6u).put(0.5f).name("c").put(8u).name("text");
  file.name("d").put(9u).put(8u).put(uint64_t{2}).name("x").name("yz");
  const auto gguf = parse(file);
  EXPECT_EQ(gguf.integer("a"), 7);
  EXPECT_EQ(gguf.number("a"), 7.0);
  EXPECT_EQ(gguf.number("b"), 0.5);
  EXPECT_EQ(gguf.text("c"), "text");
  EXPECT_EQ(gguf.texts("d"), (std::vector<std::string_view>{"x", "yz"}));
  EXPECT_FALSE(gguf.integer("e").has_value());
}

TEST(Gguf, ASettingOfAnotherKindIsNamed) {
  const auto bytes = Bytes().head(0, 1).integer("a", 7);
  const auto gguf = parse(bytes);
  EXPECT_EQ(error_of([&] { gguf.text("a"); }), "x.gguf: a is u32, expected a string");
}

TEST(Gguf, ANumberThatIsNotFiniteIsRefused) {
  const auto bytes =
      Bytes().head(0, 1).name("a").put(6u).put(std::numeric_limits<float>::quiet_NaN());
  const auto gguf = parse(bytes);
  EXPECT_EQ(error_of([&] { gguf.number("a"); }), "x.gguf: a is nan, expected a finite number");
}

TEST(Gguf, TensorsHaveTheirLongestRunOfValuesLast) {
  const auto bytes = Bytes().head(1, 0).tensor("w", {64, 3}, 8, 0).data(3 * 68);
  const auto gguf = parse(bytes);
  ASSERT_NE(gguf.find_tensor("w"), nullptr);
  EXPECT_EQ(gguf.find_tensor("w")->shape, (std::vector<int64_t>{3, 64}));
  EXPECT_EQ(gguf.find_tensor("w")->bytes.size(), 204u);
  EXPECT_EQ(gguf.find_tensor("w")->type->name, "Q8_0");
}

TEST(Gguf, RefusesWhatIsNotSound) {
  const uint64_t huge = uint64_t{1} << 62;
  EXPECT_EQ(said_of(Bytes().put(uint64_t{0}).put(uint64_t{0}).put(uint64_t{0})), "not a GGUF file");
  EXPECT_EQ(said_of(Bytes().head(0, 0, 1)), "GGUF version 1, expected 2 or 3");
  EXPECT_NE(said_of(Bytes().head(0, 0, 0x03000000)).find("big-endian"), std::string::npos);
  EXPECT_EQ(said_of(Bytes().head(0, huge)), "4611686018427387904 settings do not fit in 24 bytes");
  EXPECT_EQ(said_of(Bytes().head(huge, 0)), "4611686018427387904 tensors do not fit in 24 bytes");
  EXPECT_NE(said_of(Bytes().head(0, 2).integer("a", 1).integer("a", 2)).find("'a' is given twice"),
            std::string::npos);
  EXPECT_NE(said_of(Bytes().head(0, 1).name("a").put(9u).put(8u).put(huge)).find("do not fit"),
            std::string::npos);
  EXPECT_NE(said_of(Bytes().head(0, 1).name("a").put(13u).put(0u)).find("value type 13"),
            std::string::npos);
  EXPECT_NE(said_of(Bytes().head(0, 1).integer("general.alignment", 24)).find("power of 2"),
            std::string::npos);
}

TEST(Gguf, RefusesArraysNestedWithoutEnd) {
  Bytes file;
  file.head(0, 1).name("a").put(9u);
  for (int i = 0; i < 100; ++i) file.put(9u).put(uint64_t{1});
  file.put(4u).put(uint64_t{1}).put(1u);
  EXPECT_EQ(said_of(file), "a: arrays nested deeper than 4");
}

TEST(Gguf, RefusesTensorsThatAreNotThere) {
  const auto one = [](std::initializer_list<uint64_t> sizes, uint32_t type, uint64_t offset) {
    return said_of(Bytes().head(1, 0).tensor("w", sizes, type, offset).data(256));
  };
  EXPECT_EQ(one({64}, 0, 0), "");
  EXPECT_NE(one({65}, 0, 0).find("takes 260 bytes from byte 0"), std::string::npos);
  EXPECT_NE(one({64}, 0, 8).find("expected a multiple of 32"), std::string::npos);
  EXPECT_NE(one({64}, 0, uint64_t{1} << 63).find("takes 256 bytes"), std::string::npos);
  EXPECT_NE(one({40}, 8, 0).find("multiple of 32"), std::string::npos);
  EXPECT_NE(one({32, uint64_t{1} << 40, uint64_t{1} << 40}, 0, 0).find("too large"),
            std::string::npos);
  EXPECT_NE(one({0}, 0, 0).find("size 0"), std::string::npos);
  EXPECT_NE(one({1, 1, 1, 1, 1}, 0, 0).find("5 axes"), std::string::npos);
  EXPECT_NE(one({256}, 10, 0).find("is of type Q2_K"), std::string::npos);
  EXPECT_NE(one({256}, 99, 0).find("is of type 99"), std::string::npos);
}

TEST(Gguf, RefusesTensorsThatOverlapOrRepeat) {
  Bytes overlap, twice;
  overlap.head(2, 0).tensor("a", {16}, 0, 0).tensor("b", {16}, 0, 32).data(256);
  EXPECT_EQ(said_of(overlap), "tensor 'b' begins at byte 32 of the data, inside 'a'");
  twice.head(2, 0).tensor("a", {8}, 0, 0).tensor("a", {8}, 0, 32).data(256);
  EXPECT_EQ(said_of(twice), "tensor 'a' is given twice");
}

TEST(Gguf, EveryPrefixOfASoundFileIsRefused) {
  Bytes whole;
  whole.head(1, 1).integer("a", 7).tensor("w", {32}, 8, 0).data(34);
  for (size_t size = 0; size < whole.text.size(); ++size) {
    Bytes cut;
    cut.text = whole.text.substr(0, size);
    EXPECT_NE(said_of(cut), "") << size;
  }
}

using GgufWriter = Scratch;

TEST_F(GgufWriter, WhatIsWrittenReadsBack) {
  const auto path = in("x.gguf");
  std::vector<std::byte> bytes(68, std::byte{3});
  write_gguf(path,
             {{"n", 5u},
              {"f", 0.25f},
              {"b", true},
              {"s", std::string("word")},
              {"l", std::vector<std::string>{"a", "bc"}},
              {"i", std::vector<int32_t>{-1, 2}}},
             {{"w", &gguf_type("Q8_0", ""), {2, 32}, [&] { return bytes; }},
              {"v", &gguf_type("Q8_0", ""), {1, 32}, [&] { return std::vector<std::byte>(34); }}});
  const auto gguf = Gguf::open(path);
  EXPECT_EQ(gguf.integer("n"), 5);
  EXPECT_EQ(gguf.number("f"), 0.25);
  EXPECT_EQ(gguf.flag("b"), true);
  EXPECT_EQ(gguf.text("s"), "word");
  EXPECT_EQ(gguf.texts("l")[1], "bc");
  EXPECT_EQ(gguf.integers("i"), (std::vector<int64_t>{-1, 2}));
  EXPECT_EQ(gguf.find_tensor("w")->shape, (std::vector<int64_t>{2, 32}));
  EXPECT_EQ(gguf.find_tensor("w")->bytes[67], std::byte{3});
  EXPECT_EQ(gguf.find_tensor("v")->bytes.size(), 34u);
}

TEST_F(GgufWriter, TheWrongNumberOfBytesLeavesNoFile) {
  const GgufTensorToWrite tensor{
      "w", &gguf_type("F32", ""), {4}, [] { return std::vector<std::byte>(15); }};
  EXPECT_THROW(write_gguf(in("x.gguf"), {}, {tensor}), Error);
  EXPECT_EQ(entries(), 0u);
}

}  // namespace
}  // namespace cajal
