#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace cajal::text {

/// One code point of valid UTF-8 and its length in bytes.
struct CodePoint {
  char32_t value;
  uint32_t bytes;
};

/// The code point at `at`; `text` must be valid UTF-8 and `at` the start of a code point in it.
CodePoint code_point_at(std::string_view text, size_t at);

/// The code point that ends before `end` (> 0) in valid UTF-8.
CodePoint code_point_before(std::string_view text, size_t end);

/// Bytes of the code point that starts with `lead`, in valid UTF-8.
inline uint32_t code_point_bytes(unsigned char lead) {
  return lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
}

void append_utf8(std::string& out, char32_t code_point);
size_t count_code_points(std::string_view text);
bool is_ascii(std::string_view text);

/// Length of the longest valid UTF-8 prefix.
size_t valid_utf8_prefix(std::string_view text);

/// Bytes at the end of `text` that begin a code point without finishing it (0 to 3).
size_t unfinished_utf8(std::string_view text);

/// `text` itself when it is valid UTF-8; otherwise a copy in `buffer` where each maximal ill-formed
/// part became U+FFFD, as Python's errors="replace" does. This is the one place where bytes that
/// are not UTF-8 are changed.
std::string_view repair_utf8(std::string_view text, std::string& buffer);

// Properties of code points, by the Unicode general categories.
bool is_letter(char32_t c);           // L
bool is_number(char32_t c);           // N
bool is_mark(char32_t c);             // M
bool is_space(char32_t c);            // White_Space
bool is_word(char32_t c);             // \w: Alphabetic, M, Nd, Pc, Join_Control
bool is_punctuation(char32_t c);      // P, or an ASCII punctuation sign such as $ or ^
bool is_nonspacing_mark(char32_t c);  // Mn
bool is_other(char32_t c);            // C

/// Whether a letter or mark can stand in an upper-case run (Lu Lt Lm Lo M) or a lower-case run
/// (Ll Lm Lo M); uncased letters stand in both.
struct CaseRuns {
  bool upper, lower;
};
CaseRuns case_runs(char32_t c);

enum class UnicodeForm { nfc, nfd, nfkc, nfkd };

/// The Unicode normalisation form of valid UTF-8.
std::string normalize_form(std::string_view text, UnicodeForm form);

/// Lower case without context or locale, code point by code point.
std::string lower_case(std::string_view text);

}  // namespace cajal::text
