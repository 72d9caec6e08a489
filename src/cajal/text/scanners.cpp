#include "cajal/text/scanners.h"

#include <array>
#include <cstdint>
#include <utility>

#include "cajal/text/unicode.h"

namespace cajal::text {
namespace {

enum class Kind : uint8_t { other, letter, number, space };

constexpr std::array<Kind, 128> ascii_kinds() {
  std::array<Kind, 128> kinds{};
  for (int c = 0; c < 128; ++c) {
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    const bool number = c >= '0' && c <= '9';
    const bool space = c == ' ' || (c >= 9 && c <= 13);
    kinds[static_cast<size_t>(c)] = letter   ? Kind::letter
                                    : number ? Kind::number
                                    : space  ? Kind::space
                                             : Kind::other;
  }
  return kinds;
}
constexpr auto kAsciiKinds = ascii_kinds();

struct Sign {
  char32_t value;
  uint32_t bytes;
  Kind kind;
};

Sign sign_at(std::string_view text, size_t at) {
  const auto lead = static_cast<unsigned char>(text[at]);
  if (lead < 0x80) return {lead, 1, kAsciiKinds[lead]};
  const auto [c, bytes] = code_point_at(text, at);
  if (is_letter(c)) return {c, bytes, Kind::letter};
  if (is_number(c)) return {c, bytes, Kind::number};
  return {c, bytes, is_space(c) ? Kind::space : Kind::other};
}

// End of the run of `kind` from `at`, of at most `most` code points.
size_t run(std::string_view text, size_t at, Kind kind, size_t most = SIZE_MAX) {
  for (; most > 0 && at < text.size(); --most) {
    const auto lead = static_cast<unsigned char>(text[at]);
    if (lead < 0x80) {
      if (kAsciiKinds[lead] != kind) break;
      ++at;
    } else {
      const auto sign = sign_at(text, at);
      if (sign.kind != kind) break;
      at += sign.bytes;
    }
  }
  return at;
}

bool is_newline(char c) { return c == '\r' || c == '\n'; }

// End of 's, 't, 're, 've, 'm, 'll or 'd at `at`, or `at` when none is there.
template <bool any_case>
size_t contraction(std::string_view text, size_t at) {
  if (at + 1 >= text.size() || text[at] != '\'') return at;
  const auto letter = [&](size_t i) -> char {
    if (i >= text.size()) return '\0';
    const char c = text[i];
    return any_case && c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  };
  const char first = letter(at + 1), second = letter(at + 2);
  switch (first) {
    case 's':
    case 't':
    case 'm':
    case 'd':
      return at + 2;
    case 'r':
    case 'v':
      return second == 'e' ? at + 3 : at;
    case 'l':
      return second == 'l' ? at + 3 : at;
    default:
      break;
  }
  // Without regard to case, s is also the long s (U+017F).
  if (any_case && text.substr(at + 1, 2) == "\xC5\xBF") return at + 3;
  return at;
}

// \s+(?!\S)|\s+ : a run of spaces leaves its last one to a following word.
size_t spaces(std::string_view text, size_t at) {
  const size_t end = run(text, at, Kind::space);
  if (end == text.size()) return end;
  const size_t last = end - code_point_before(text.substr(at), end - at).bytes;
  return last > at ? last : end;
}

// \s*[\r\n]+ : up to the last line break of the run of spaces, or `at`.
size_t spaces_to_newline(std::string_view text, size_t at) {
  size_t end = run(text, at, Kind::space);
  while (end > at && !is_newline(text[end - 1])) --end;
  return end;
}

size_t gpt2(std::string_view text, size_t at) {
  if (const size_t end = contraction<false>(text, at); end > at) return end;
  const bool space = text[at] == ' ' && at + 1 < text.size();
  const size_t word = at + space;
  const Kind kind = sign_at(text, word).kind;
  return kind == Kind::space ? spaces(text, at) : run(text, word, kind);
}

// The part that Llama 3 and GPT-4o share behind words and numbers:
//  ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+  (GPT-4o also lets a slash follow).
template <bool slash>
size_t signs_or_spaces(std::string_view text, size_t at) {
  const bool space = text[at] == ' ' && at + 1 < text.size();
  const size_t signs = at + space;
  if (sign_at(text, signs).kind == Kind::other) {
    size_t end = run(text, signs, Kind::other);
    while (end < text.size() && (is_newline(text[end]) || (slash && text[end] == '/'))) ++end;
    return end;
  }
  if (const size_t end = spaces_to_newline(text, at); end > at) return end;
  return spaces(text, at);
}

template <size_t digits>
size_t llama3(std::string_view text, size_t at) {
  if (const size_t end = contraction<true>(text, at); end > at) return end;
  const auto first = sign_at(text, at);
  if (first.kind == Kind::letter) return run(text, at, Kind::letter);
  if (first.kind == Kind::number) return run(text, at, Kind::number, digits);
  const size_t next = at + first.bytes;
  if (!is_newline(text[at]) && next < text.size() && sign_at(text, next).kind == Kind::letter)
    return run(text, next, Kind::letter);
  return signs_or_spaces<false>(text, at);
}

CaseRuns case_at(std::string_view text, size_t at) {
  const auto lead = static_cast<unsigned char>(text[at]);
  if (lead < 0x80) return {lead >= 'A' && lead <= 'Z', lead >= 'a' && lead <= 'z'};
  return case_runs(code_point_at(text, at).value);
}

// [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+ from `at`, or `at`.
size_t capitals_then_lower(std::string_view text, size_t at) {
  size_t upper_end = at, fallback = at;  // `fallback`: end of the last uncased sign of the run
  while (upper_end < text.size()) {
    const auto runs = case_at(text, upper_end);
    if (!runs.upper) break;
    upper_end += code_point_bytes(static_cast<unsigned char>(text[upper_end]));
    if (runs.lower) fallback = upper_end;
  }
  size_t end = upper_end;
  while (end < text.size() && case_at(text, end).lower)
    end += code_point_bytes(static_cast<unsigned char>(text[end]));
  return end > upper_end ? end : fallback;
}

// [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]* from `at`, or `at`.
size_t capitals(std::string_view text, size_t at) {
  size_t end = at;
  while (end < text.size() && case_at(text, end).upper)
    end += code_point_bytes(static_cast<unsigned char>(text[end]));
  if (end == at) return at;
  while (end < text.size() && case_at(text, end).lower)
    end += code_point_bytes(static_cast<unsigned char>(text[end]));
  return end;
}

size_t gpt4o(std::string_view text, size_t at) {
  const auto first = sign_at(text, at);
  const bool may_lead =
      !is_newline(text[at]) && first.kind != Kind::letter && first.kind != Kind::number;
  const size_t next = at + first.bytes;
  for (const auto word : {capitals_then_lower, capitals}) {
    for (const size_t begin : {may_lead && next < text.size() ? next : at, at}) {
      const size_t end = word(text, begin);
      if (end > begin) return contraction<true>(text, end);
    }
  }
  if (first.kind == Kind::number) return run(text, at, Kind::number, 3);
  return signs_or_spaces<true>(text, at);
}

}  // namespace

Scanner scanner_for(std::string_view pattern) {
  static constexpr std::pair<std::string_view, Scanner> kKnown[] = {
      {kGpt2Pattern, gpt2},
      {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
       llama3<3>},
      {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
       llama3<1>},
      {R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
       gpt4o},
  };
  for (const auto& [known, scanner] : kKnown)
    if (known == pattern) return scanner;
  return nullptr;
}

}  // namespace cajal::text
