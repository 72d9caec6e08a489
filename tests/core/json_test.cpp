#include "cajal/core/json.h"

#include "core/scratch.h"

namespace {

std::string again(const char* text) { return cajal::parse_json(text, "test").dump(); }

TEST(Json, KeepsEveryKindOfValueAndTheOrderOfKeys) {
  for (const char* text :
       {R"({"z":[1,-2,0.5,null,true,"x"],"a":{"b":{},"c":[[],[[]],{"d":1}]},"":"é"})", "[]", "7",
        "18446744073709551615", R"("text")", "null"})
    EXPECT_EQ(again(text), text);
}

TEST(Json, PutsValuesBehindTheirOwnKeys) {
  const auto json = cajal::parse_json(R"({"a":{"x":1,"y":[{"x":2},3]},"b":4})", "test");
  EXPECT_EQ(json["a"]["y"][0]["x"], 2);
  EXPECT_EQ(json["a"]["y"][1], 3);
  EXPECT_EQ(json["b"], 4);
}

TEST(Json, RefusesAKeyThatComesTwiceInOneObjectOnly) {
  EXPECT_EQ(again(R"({"a":{"a":1},"b":{"a":2}})"), R"({"a":{"a":1},"b":{"a":2}})");
  EXPECT_EQ(error_of([] { again(R"({"b":{"a":1,"c":2,"a":3}})"); }), "test: key 'a' appears twice");
}

TEST(Json, NamesTheByteAtWhichTextGoesWrong) {
  EXPECT_NE(error_of([] { again(R"({"a":1,})"); }).find("test: not valid JSON at byte 8"),
            std::string::npos);
  EXPECT_NE(error_of([] { again("[1e999]"); }).find("test: not valid JSON at byte"),
            std::string::npos);
  EXPECT_NE(error_of([] { again(""); }).find("test: not valid JSON"), std::string::npos);
}

TEST(Json, OverTheLimitIsNotParsed) {
  EXPECT_EQ(error_of([] { cajal::parse_json("[1, 2]", "test", {.bytes = 5}); }),
            "test: 6 bytes of JSON, at most 5 are read");
}

}  // namespace
