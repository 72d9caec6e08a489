#include "cajal/text/unicode.h"

#include <gtest/gtest.h>

namespace {

using namespace cajal::text;

std::string repaired(std::string_view text) {
  std::string buffer;
  return std::string(repair_utf8(text, buffer));
}

TEST(Unicode, ReplacesEachMaximalIllFormedPartOnce) {
  const std::string bad = "\xEF\xBF\xBD";
  EXPECT_EQ(repaired("plain \xC3\xA9"), "plain \xC3\xA9");
  EXPECT_EQ(repaired("a\xFF"
                     "b"),
            "a" + bad + "b");
  EXPECT_EQ(repaired("\xE2\x82"), bad);                  // cut off: one part
  EXPECT_EQ(repaired("\xC0\x80"), bad + bad);            // overlong: each byte
  EXPECT_EQ(repaired("\xED\xA0\x80"), bad + bad + bad);  // a surrogate
  EXPECT_EQ(repaired("\xF0\x9F\x98x"), bad + "x");
  EXPECT_EQ(repaired("\xF4\x90\x80\x80"), bad + bad + bad + bad);  // beyond U+10FFFF
}

TEST(Unicode, KnowsTheBytesOfAnUnfinishedCharacter) {
  EXPECT_EQ(unfinished_utf8("ab\xF0\x9F\x98"), 3u);
  EXPECT_EQ(unfinished_utf8("ab\xE2"), 1u);
  EXPECT_EQ(unfinished_utf8("ab\xC3\xA9"), 0u);
  EXPECT_EQ(unfinished_utf8("ab\x80"), 0u);    // never the start of anything
  EXPECT_EQ(unfinished_utf8("\xE2\x28"), 0u);  // already broken
  EXPECT_EQ(unfinished_utf8(""), 0u);
}

TEST(Unicode, NormalisesAcrossTheBorderOfAsciiAndTheRest) {
  EXPECT_EQ(normalize_form("cafe\xCC\x81 x", UnicodeForm::nfc), "caf\xC3\xA9 x");
  EXPECT_EQ(normalize_form("caf\xC3\xA9", UnicodeForm::nfd), "cafe\xCC\x81");
  EXPECT_EQ(normalize_form("\xEF\xAC\x81n", UnicodeForm::nfkc), "fin");
  EXPECT_EQ(normalize_form("\xEF\xAC\x81n", UnicodeForm::nfc), "\xEF\xAC\x81n");
}

TEST(Unicode, LowersTheDottedCapitalIToTwoCodePoints) {
  EXPECT_EQ(lower_case("\xC4\xB0"), "i\xCC\x87");
  EXPECT_EQ(lower_case("\xCE\xA3 ABC"), "\xCF\x83 abc");
}

}  // namespace
