#include "cajal/text/precompiled.h"

#include <utf8proc.h>

#include <cstring>

#include "cajal/core/error.h"
#include "cajal/text/unicode.h"

namespace cajal::text {
namespace {

// Graphemes of more bytes are never looked up whole.
constexpr size_t kMaxGraphemeBytes = 5;

std::string decode_base64(std::string_view text, const std::string& where) {
  std::string out;
  uint32_t bits = 0;
  int have = 0;
  while (text.ends_with('=')) text.remove_suffix(1);
  for (const char c : text) {
    const int digit = c >= 'A' && c <= 'Z'   ? c - 'A'
                      : c >= 'a' && c <= 'z' ? c - 'a' + 26
                      : c >= '0' && c <= '9' ? c - '0' + 52
                      : c == '+'             ? 62
                      : c == '/'             ? 63
                                             : -1;
    require(digit >= 0, "{}.precompiled_charsmap: not base64", where);
    bits = bits << 6 | static_cast<uint32_t>(digit);
    have += 6;
    if (have < 8) continue;
    have -= 8;
    out.push_back(static_cast<char>(bits >> have & 0xFF));
  }
  return out;
}

}  // namespace

CharacterMap CharacterMap::parse(std::string_view base64, const std::string& where) {
  const std::string blob = decode_base64(base64, where);
  uint32_t bytes = 0;
  require(blob.size() >= 4, "{}.precompiled_charsmap: {} bytes are too few", where, blob.size());
  std::memcpy(&bytes, blob.data(), 4);
  require(bytes >= 4 && bytes % 4 == 0 && bytes <= blob.size() - 4,
          "{}.precompiled_charsmap: its trie of {} bytes does not fit into {}", where, bytes,
          blob.size() - 4);
  CharacterMap map;
  map.units_.resize(bytes / 4);
  std::memcpy(map.units_.data(), blob.data() + 4, bytes);
  map.replacements_ = blob.substr(4 + bytes);
  return map;
}

const char* CharacterMap::find(std::string_view text) const {
  const auto offset = [](uint32_t unit) { return (unit >> 10) << ((unit & 0x200u) >> 6); };
  uint32_t node = offset(units_[0]);
  for (const char c : text) {
    const auto byte = static_cast<uint8_t>(c);
    node ^= byte;
    if (byte == 0 || node >= units_.size()) return nullptr;
    const uint32_t unit = units_[node];
    if ((unit & 0x800000FFu) != byte) return nullptr;
    node ^= offset(unit);
    if (node >= units_.size()) return nullptr;
    if (unit >> 8 & 1) {
      const uint32_t at = units_[node] & 0x7FFFFFFFu;
      return at < replacements_.size() ? replacements_.c_str() + at : nullptr;
    }
  }
  return nullptr;
}

std::string CharacterMap::operator()(std::string_view text) const {
  std::string out;
  out.reserve(text.size());
  const auto translate = [&](std::string_view part) {
    const char* replacement = find(part);
    if (replacement) out.append(replacement);
    return replacement != nullptr;
  };
  for (size_t begin = 0; begin < text.size();) {
    auto [last, bytes] = code_point_at(text, begin);
    size_t end = begin + bytes;
    for (utf8proc_int32_t state = 0; end < text.size();) {
      const auto next = code_point_at(text, end);
      if (utf8proc_grapheme_break_stateful(static_cast<utf8proc_int32_t>(last),
                                           static_cast<utf8proc_int32_t>(next.value), &state))
        break;
      last = next.value;
      end += next.bytes;
    }
    const auto grapheme = text.substr(begin, end - begin);
    begin = end;
    if (grapheme.size() <= kMaxGraphemeBytes && translate(grapheme)) continue;
    for (size_t at = 0; at < grapheme.size();) {
      const auto part = grapheme.substr(at, code_point_bytes(static_cast<uint8_t>(grapheme[at])));
      at += part.size();
      if (!translate(part)) out.append(part);
    }
  }
  return out;
}

}  // namespace cajal::text
