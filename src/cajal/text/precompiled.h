#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace cajal::text {

/// The character map that sentencepiece compiles into its models ("Precompiled" in tokenizer
/// files): a double-array trie from short strings to their replacements.
class CharacterMap {
 public:
  /// Decodes the base64 text; throws Error naming `where` when it is not such a map.
  static CharacterMap parse(std::string_view base64, const std::string& where);

  /// Replaces grapheme by grapheme where the map knows one, else code point by code point.
  std::string operator()(std::string_view text) const;

 private:
  /// The replacement of the shortest known prefix, or null.
  const char* find(std::string_view text) const;

  std::vector<uint32_t> units_;
  std::string replacements_;  // each ends with a zero byte
};

}  // namespace cajal::text
