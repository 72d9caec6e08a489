#include "cajal/text/normalizer.h"

#include "cajal/core/error.h"
#include "cajal/text/byte_alphabet.h"
#include "cajal/text/fields.h"
#include "cajal/text/precompiled.h"
#include "cajal/text/unicode.h"

namespace cajal::text {
namespace {

template <class Keep>
std::string filter(std::string_view text, Keep keep) {
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const auto [c, bytes] = code_point_at(text, at);
    if (keep(c)) out.append(text, at, bytes);
    at += bytes;
  }
  return out;
}

std::string strip(std::string_view text, bool left, bool right) {
  while (left && !text.empty()) {
    const auto [c, bytes] = code_point_at(text, 0);
    if (!is_space(c)) break;
    text.remove_prefix(bytes);
  }
  while (right && !text.empty()) {
    const auto [c, bytes] = code_point_before(text, text.size());
    if (!is_space(c)) break;
    text.remove_suffix(bytes);
  }
  return std::string(text);
}

// The control characters that sentencepiece's nmt_nfkc drops, and what it reads as a space.
std::string nmt(std::string_view text) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const auto [c, bytes] = code_point_at(text, at);
    const bool dropped = (c >= 1 && c <= 8) || c == 0x0B || (c >= 0x0E && c <= 0x1F) || c == 0x7F ||
                         c == 0x8F || c == 0x9F;
    const bool space = c == 9 || c == 10 || c == 12 || c == 13 || c == 0x1680 ||
                       (c >= 0x200B && c <= 0x200F) || c == 0x2028 || c == 0x2029 || c == 0x2581 ||
                       c == 0xFEFF || c == 0xFFFD;
    if (space) {
      out.push_back(' ');
    } else if (!dropped) {
      out.append(text, at, bytes);
    }
    at += bytes;
  }
  return out;
}

bool is_cjk(char32_t c) {
  return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) ||
         (c >= 0x20000 && c <= 0x2A6DF) || (c >= 0x2A700 && c <= 0x2B73F) ||
         (c >= 0x2B740 && c <= 0x2B81F) || (c >= 0x2B920 && c <= 0x2CEAF) ||
         (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
}

struct Bert {
  bool clean_text, handle_chinese_chars, strip_accents, lowercase;

  std::string operator()(std::string_view text) const {
    std::string out;
    out.reserve(text.size());
    for (size_t at = 0; at < text.size();) {
      const auto [c, bytes] = code_point_at(text, at);
      const auto sign = text.substr(at, bytes);
      at += bytes;
      if (clean_text) {
        const bool space = is_space(c);
        const bool line = c == '\t' || c == '\n' || c == '\r';
        if (c == 0 || c == 0xFFFD || (is_other(c) && !line)) continue;
        if (space) {
          out.push_back(' ');
          continue;
        }
      }
      if (handle_chinese_chars && is_cjk(c)) {
        out.append(" ").append(sign).append(" ");
      } else {
        out.append(sign);
      }
    }
    if (strip_accents)
      out = filter(normalize_form(out, UnicodeForm::nfd),
                   [](char32_t c) { return !is_nonspacing_mark(c); });
    return lowercase ? lower_case(out) : out;
  }
};

Normalizer::Step form(UnicodeForm form) {
  return [form](std::string_view text) { return normalize_form(text, form); };
}

Normalizer::Step parse_normalizer_step(const Json& json, const std::string& type,
                                       const std::string& where) {
  if (type == "NFC") return form(UnicodeForm::nfc);
  if (type == "NFD") return form(UnicodeForm::nfd);
  if (type == "NFKC") return form(UnicodeForm::nfkc);
  if (type == "NFKD") return form(UnicodeForm::nfkd);
  if (type == "Lowercase") return lower_case;
  if (type == "Nmt") return nmt;
  if (type == "ByteLevel") return to_byte_letters;
  if (type == "StripAccents")
    return
        [](std::string_view text) { return filter(text, [](char32_t c) { return !is_mark(c); }); };
  if (type == "Strip") {
    const bool left = field(json, "strip_left", where, true);
    const bool right = field(json, "strip_right", where, true);
    return [=](std::string_view text) { return strip(text, left, right); };
  }
  if (type == "Prepend") {
    return [prefix = required_field<std::string>(json, "prepend", where)](std::string_view text) {
      return text.empty() ? std::string() : prefix + std::string(text);
    };
  }
  if (type == "Replace") {
    return [pattern = pattern_field(json, where),
            content = required_field<std::string>(json, "content", where)](std::string_view text) {
      return pattern.replace(text, content);
    };
  }
  if (type == "BertNormalizer" || type == "Bert") {
    Bert bert{};
    bert.clean_text = field(json, "clean_text", where, true);
    bert.handle_chinese_chars = field(json, "handle_chinese_chars", where, true);
    bert.lowercase = field(json, "lowercase", where, true);
    bert.strip_accents = field(json, "strip_accents", where, bert.lowercase);
    return bert;
  }
  if (type == "Precompiled")
    return
        [map = CharacterMap::parse(required_field<std::string>(json, "precompiled_charsmap", where),
                                   where)](std::string_view text) { return map(text); };
  fail("{}.type: normalizer '{}' is not known", where, type);
}

}  // namespace

Normalizer Normalizer::parse(const Json& json, const std::string& where) {
  Normalizer normalizer;
  if (!json.is_null()) normalizer.add(json, where);
  return normalizer;
}

void Normalizer::add(const Json& json, const std::string& where) {
  const auto type = type_of(json, where);
  if (type == "Sequence") {
    const Json& parts = list_field(json, "normalizers", where);
    for (size_t i = 0; i < parts.size(); ++i)
      add(parts[i], fmt::format("{}.normalizers[{}]", where, i));
  } else {
    steps_.push_back(parse_normalizer_step(json, type, where));
  }
}

std::string Normalizer::operator()(std::string_view text) const {
  std::string out(text);
  for (const auto& step : steps_) out = step(out);
  return out;
}

}  // namespace cajal::text
