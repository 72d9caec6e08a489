#include "cajal/text/pattern.h"

#include <gtest/gtest.h>

#include "cajal/core/error.h"
#include "cajal/core/random.h"
#include "cajal/text/unicode.h"

namespace {

using namespace cajal::text;

std::vector<std::string> segments(const Pattern& pattern, std::string_view text) {
  std::vector<std::string> out;
  pattern.segments(text, [&](std::string_view segment, bool match) {
    out.push_back(fmt::format("{}{}", match ? '+' : '-', segment));
  });
  return out;
}

std::string message(const char* expression, std::string_view text = "") {
  try {
    segments(Pattern::regex(expression, "file: pattern"), text);
  } catch (const cajal::Error& error) {
    return error.what();
  }
  return "";
}

constexpr const char* kScanned[] = {
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)",
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
};

TEST(Pattern, ScannersCutAsTheExpressionsTheyStandFor) {
  const std::u32string signs =
      U"aZs'tdlvreLLSDM 0٣½Ⅷ "
      U"..//!?\n\n\r\t\v\u00a0\u3000\u0085éſßĿǅʰ中日\u0301\u093fא🙂\u200d₂_";
  cajal::Random random(7);
  for (const char* expression : kScanned) {
    const auto scanned = Pattern::regex(expression, "test");
    const auto matched = Pattern::regex("(?:" + std::string(expression) + ")", "test");
    ASSERT_TRUE(scanned.scanner());
    ASSERT_FALSE(matched.scanner());
    for (int i = 0; i < 3000; ++i) {
      std::string text;
      for (uint64_t n = random.below(14); n > 0; --n)
        append_utf8(text, signs[random.below(signs.size())]);
      ASSERT_EQ(segments(scanned, text), segments(matched, text)) << text;
    }
  }
}

TEST(Pattern, TellsMatchesFromWhatLiesBetween) {
  EXPECT_EQ(segments(Pattern::literal("ab"), "xababy"),
            (std::vector<std::string>{"-x", "+ab", "+ab", "-y"}));
  EXPECT_EQ(segments(Pattern::regex("[0-9]+", ""), "a12b3"),
            (std::vector<std::string>{"-a", "+12", "-b", "+3"}));
  EXPECT_EQ(Pattern::regex(R"(\s+)", "").replace("a \xC2\x85 b", "_"), "a_b");
}

TEST(Pattern, ReadsTheDialectOfTokenizerFiles) {
  EXPECT_EQ(Pattern::regex("[0-9]{1,3}+", "").replace("12345", "#"), "#");  // not possessive
  EXPECT_EQ(Pattern::regex("\\u4e2d", "").replace("\xE4\xB8\xAD", "#"), "#");
  EXPECT_EQ(Pattern::regex("\\h+", "").replace("xfF9 ", "#"), "x# ");
  EXPECT_EQ(Pattern::regex("a$", "").replace("a\nb", "#"), "#\nb");  // the end of every line
  EXPECT_EQ(Pattern::regex("[^\\s]+", "").replace("a \xE1\xA0\x8E", "#"),
            "# #");  // no space: U+180E
}

TEST(Pattern, GetsPastEmptyMatches) {
  EXPECT_EQ(Pattern::regex("x*", "").replace("\xC3\xA9xx", "-"), "-\xC3\xA9-");
}

TEST(Pattern, RefusesWhatIsNoExpressionAndNamesThePlace) {
  EXPECT_NE(message("(a").find("file: pattern: pattern '(a' is not a regular expression"),
            std::string::npos);
  EXPECT_NE(message("[a[bc]]").find("nests character classes"), std::string::npos);
}

TEST(Pattern, StopsARunawayExpression) {
  EXPECT_NE(message("(?:a+)+$", std::string(64, 'a') + "b").find("too many steps"),
            std::string::npos);
}

}  // namespace
