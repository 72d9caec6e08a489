#include "cajal/text/precompiled.h"

#include <gtest/gtest.h>

#include "cajal/core/error.h"

namespace {

using cajal::text::CharacterMap;

std::string base64(std::string_view bytes) {
  constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  uint32_t bits = 0;
  int have = 0;
  for (const char c : bytes) {
    bits = bits << 8 | static_cast<uint8_t>(c);
    for (have += 8; have >= 6; have -= 6) out += kDigits[bits >> (have - 6) & 63];
  }
  if (have > 0) out += kDigits[bits << (6 - have) & 63];
  while (out.size() % 4) out += '=';
  return out;
}

// The double array of one key: every unit is its byte, whether a value follows, and where to go on.
std::string map_of(std::string_view key, std::string_view replacement) {
  std::vector<uint32_t> units(4096);
  uint32_t offset = 256, node = 0;
  units[0] = offset << 10;
  for (size_t i = 0; i < key.size(); ++i) {
    const auto byte = static_cast<uint8_t>(key[i]);
    node ^= offset ^ byte;
    offset *= 2;
    units[node] = offset << 10 | uint32_t{i + 1 == key.size()} << 8 | byte;
  }
  units[node ^ offset] = 0x80000000u | 1;  // the replacement starts at byte 1
  const auto bytes = static_cast<uint32_t>(units.size() * 4);
  std::string blob(reinterpret_cast<const char*>(&bytes), 4);
  blob.append(reinterpret_cast<const char*>(units.data()), bytes);
  return base64(blob.append(1, '\0').append(replacement).append(1, '\0'));
}

std::string error_of(const std::string& map) {
  try {
    CharacterMap::parse(map, "file: normalizer");
  } catch (const cajal::Error& error) {
    return error.what();
  }
  return "";
}

TEST(CharacterMap, ReplacesWhatItKnowsAndKeepsTheRest) {
  const auto map = CharacterMap::parse(map_of("\xEF\xAC\x81", "fi"), "test");
  EXPECT_EQ(map("\xEF\xAC\x81n \xEF\xAC\x82 \xC3\xA9"), "fin \xEF\xAC\x82 \xC3\xA9");
}

TEST(CharacterMap, LooksCodePointsUpInLongGraphemes) {
  const auto map = CharacterMap::parse(map_of("\xCC\x81", "'"), "test");
  EXPECT_EQ(map("e\xCC\x81"), "e'");
}

TEST(CharacterMap, RefusesWhatIsNoMap) {
  EXPECT_NE(error_of("?").find("not base64"), std::string::npos);
  EXPECT_NE(error_of("AA==").find("too few"), std::string::npos);
  EXPECT_NE(error_of("/////w==").find("does not fit"), std::string::npos);
}

}  // namespace
