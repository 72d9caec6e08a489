#include "cajal/text/unicode.h"

#include <utf8proc.h>

#include <array>
#include <cstring>
#include <vector>

#include "cajal/core/error.h"

namespace cajal::text {
namespace {

uint32_t bit(int category) { return uint32_t{1} << category; }

const uint32_t kLetters = bit(UTF8PROC_CATEGORY_LU) | bit(UTF8PROC_CATEGORY_LL) |
                          bit(UTF8PROC_CATEGORY_LT) | bit(UTF8PROC_CATEGORY_LM) |
                          bit(UTF8PROC_CATEGORY_LO);
const uint32_t kMarks =
    bit(UTF8PROC_CATEGORY_MN) | bit(UTF8PROC_CATEGORY_MC) | bit(UTF8PROC_CATEGORY_ME);
const uint32_t kNumbers =
    bit(UTF8PROC_CATEGORY_ND) | bit(UTF8PROC_CATEGORY_NL) | bit(UTF8PROC_CATEGORY_NO);
const uint32_t kPunctuation = bit(UTF8PROC_CATEGORY_PC) | bit(UTF8PROC_CATEGORY_PD) |
                              bit(UTF8PROC_CATEGORY_PS) | bit(UTF8PROC_CATEGORY_PE) |
                              bit(UTF8PROC_CATEGORY_PI) | bit(UTF8PROC_CATEGORY_PF) |
                              bit(UTF8PROC_CATEGORY_PO);
const uint32_t kOther = bit(UTF8PROC_CATEGORY_CC) | bit(UTF8PROC_CATEGORY_CF) |
                        bit(UTF8PROC_CATEGORY_CN) | bit(UTF8PROC_CATEGORY_CO) |
                        bit(UTF8PROC_CATEGORY_CS);

uint32_t category(char32_t c) { return bit(utf8proc_category(static_cast<utf8proc_int32_t>(c))); }

struct Sequence {
  uint32_t bytes;  // of the well-formed sequence, or of the maximal ill-formed part
  bool valid;
};

// The sequence at the start of `text`, by table 3-7 of the Unicode standard.
Sequence sequence_at(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned lead = byte(0);
  if (lead < 0x80) return {1, true};
  if (lead < 0xC2 || lead > 0xF4) return {1, false};
  const uint32_t want = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  unsigned low = 0x80, high = 0xBF;  // of the second byte
  if (lead == 0xE0) low = 0xA0;
  if (lead == 0xED) high = 0x9F;
  if (lead == 0xF0) low = 0x90;
  if (lead == 0xF4) high = 0x8F;
  for (uint32_t i = 1; i < want; ++i) {
    if (i >= text.size() || byte(i) < low || byte(i) > high) return {i, false};
    low = 0x80, high = 0xBF;
  }
  return {want, true};
}

size_t ascii_prefix(std::string_view text) {
  size_t i = 0;
  for (; i + 8 <= text.size(); i += 8) {
    uint64_t word;
    std::memcpy(&word, text.data() + i, 8);
    if (word & 0x8080808080808080ull) break;
  }
  while (i < text.size() && static_cast<unsigned char>(text[i]) < 0x80) ++i;
  return i;
}

}  // namespace

CodePoint code_point_at(std::string_view text, size_t at) {
  const auto* p = reinterpret_cast<const unsigned char*>(text.data()) + at;
  const unsigned lead = p[0];
  if (lead < 0x80) return {lead, 1};
  if (lead < 0xE0) return {(lead & 0x1Fu) << 6 | (p[1] & 0x3Fu), 2};
  if (lead < 0xF0) return {(lead & 0x0Fu) << 12 | (p[1] & 0x3Fu) << 6 | (p[2] & 0x3Fu), 3};
  return {(lead & 0x07u) << 18 | (p[1] & 0x3Fu) << 12 | (p[2] & 0x3Fu) << 6 | (p[3] & 0x3Fu), 4};
}

CodePoint code_point_before(std::string_view text, size_t end) {
  size_t at = end - 1;
  while (at > 0 && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80) --at;
  return code_point_at(text, at);
}

void append_utf8(std::string& out, char32_t c) {
  const auto put = [&](uint32_t byte) { out.push_back(static_cast<char>(byte)); };
  if (c < 0x80) {
    put(c);
  } else if (c < 0x800) {
    put(0xC0 | c >> 6), put(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    put(0xE0 | c >> 12), put(0x80 | (c >> 6 & 0x3F)), put(0x80 | (c & 0x3F));
  } else {
    put(0xF0 | c >> 18), put(0x80 | (c >> 12 & 0x3F)), put(0x80 | (c >> 6 & 0x3F));
    put(0x80 | (c & 0x3F));
  }
}

size_t count_code_points(std::string_view text) {
  size_t count = 0;
  for (const char c : text) count += (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  return count;
}

bool is_ascii(std::string_view text) { return ascii_prefix(text) == text.size(); }

size_t valid_utf8_prefix(std::string_view text) {
  size_t at = 0;
  while (at < text.size()) {
    at += ascii_prefix(text.substr(at));
    if (at == text.size()) break;
    const auto next = sequence_at(text.substr(at));
    if (!next.valid) break;
    at += next.bytes;
  }
  return at;
}

size_t unfinished_utf8(std::string_view text) {
  for (size_t tail = 1; tail <= 3 && tail <= text.size(); ++tail) {
    const auto last = text.substr(text.size() - tail);
    if ((static_cast<unsigned char>(last[0]) & 0xC0) == 0x80) continue;
    const auto next = sequence_at(last);
    const bool lead =
        static_cast<unsigned char>(last[0]) >= 0xC2 && static_cast<unsigned char>(last[0]) <= 0xF4;
    return lead && !next.valid && next.bytes == tail ? tail : 0;
  }
  return 0;
}

std::string_view repair_utf8(std::string_view text, std::string& buffer) {
  size_t good = valid_utf8_prefix(text);
  if (good == text.size()) return text;
  buffer.clear();
  buffer.reserve(text.size() + text.size() / 8);
  while (true) {
    buffer.append(text.substr(0, good));
    text.remove_prefix(good);
    if (text.empty()) return buffer;
    buffer.append("\xEF\xBF\xBD");
    text.remove_prefix(sequence_at(text).bytes);
    good = valid_utf8_prefix(text);
  }
}

bool is_letter(char32_t c) { return category(c) & kLetters; }
bool is_number(char32_t c) { return category(c) & kNumbers; }
bool is_mark(char32_t c) { return category(c) & kMarks; }
bool is_nonspacing_mark(char32_t c) { return category(c) & bit(UTF8PROC_CATEGORY_MN); }
bool is_other(char32_t c) { return category(c) & kOther; }

bool is_space(char32_t c) {
  if (c < 0x80) return c == ' ' || (c >= 9 && c <= 13);
  return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 ||
         c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

bool is_word(char32_t c) {
  const uint32_t word = kLetters | kMarks | bit(UTF8PROC_CATEGORY_ND) | bit(UTF8PROC_CATEGORY_NL) |
                        bit(UTF8PROC_CATEGORY_PC);
  if (category(c) & word) return true;
  // Join_Control, and the circled and squared letters that are Alphabetic although symbols.
  return c == 0x200C || c == 0x200D || (c >= 0x24B6 && c <= 0x24E9) ||
         (c >= 0x1F130 && c <= 0x1F149) || (c >= 0x1F150 && c <= 0x1F169) ||
         (c >= 0x1F170 && c <= 0x1F189);
}

bool is_punctuation(char32_t c) {
  if (c < 0x80)
    return (c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') ||
           (c >= '{' && c <= '~');
  return category(c) & kPunctuation;
}

CaseRuns case_runs(char32_t c) {
  const uint32_t uncased = kMarks | bit(UTF8PROC_CATEGORY_LM) | bit(UTF8PROC_CATEGORY_LO);
  const uint32_t is = category(c);
  return {(is & (uncased | bit(UTF8PROC_CATEGORY_LU) | bit(UTF8PROC_CATEGORY_LT))) != 0,
          (is & (uncased | bit(UTF8PROC_CATEGORY_LL))) != 0};
}

namespace {

void append_form(std::string& out, std::string_view text, int options) {
  thread_local std::vector<utf8proc_int32_t> buffer;
  const auto* bytes = reinterpret_cast<const utf8proc_uint8_t*>(text.data());
  const auto size = static_cast<utf8proc_ssize_t>(text.size());
  const auto flags = static_cast<utf8proc_option_t>(options);
  if (buffer.size() < text.size() + 1) buffer.resize(text.size() + 1);
  auto need = utf8proc_decompose(bytes, size, buffer.data(),
                                 static_cast<utf8proc_ssize_t>(buffer.size() - 1), flags);
  if (need >= static_cast<utf8proc_ssize_t>(buffer.size())) {
    buffer.resize(static_cast<size_t>(need) + 1);
    need = utf8proc_decompose(bytes, size, buffer.data(), need, flags);
  }
  require(need >= 0, "text: Unicode normalisation failed: {}", utf8proc_errmsg(need));
  need = utf8proc_normalize_utf32(buffer.data(), need, flags);
  require(need >= 0, "text: Unicode normalisation failed: {}", utf8proc_errmsg(need));
  for (utf8proc_ssize_t i = 0; i < need; ++i)
    append_utf8(out, static_cast<char32_t>(buffer[static_cast<size_t>(i)]));
}

}  // namespace

std::string normalize_form(std::string_view text, UnicodeForm form) {
  constexpr std::array<int, 4> kOptions = {UTF8PROC_STABLE | UTF8PROC_COMPOSE,
                                           UTF8PROC_STABLE | UTF8PROC_DECOMPOSE,
                                           UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT,
                                           UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT};
  std::string out;
  out.reserve(text.size() + 8);
  size_t at = 0;
  while (at < text.size()) {
    // ASCII never changes, but its last character may combine with what follows it.
    size_t plain = ascii_prefix(text.substr(at));
    if (at + plain == text.size()) {
      out.append(text.substr(at));
      break;
    }
    if (plain > 0) --plain;
    out.append(text.substr(at, plain));
    at += plain;
    size_t end = at + 1;
    while (end < text.size() && static_cast<unsigned char>(text[end]) >= 0x80) ++end;
    append_form(out, text.substr(at, end - at), kOptions[static_cast<size_t>(form)]);
    at = end;
  }
  return out;
}

std::string lower_case(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const auto [c, bytes] = code_point_at(text, at);
    at += bytes;
    if (c < 0x80) {
      out.push_back(static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c));
    } else if (c == 0x130) {
      out.append("i\xCC\x87");  // the one code point whose lower case is two
    } else {
      append_utf8(out, static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c))));
    }
  }
  return out;
}

}  // namespace cajal::text
