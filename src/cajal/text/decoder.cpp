#include "cajal/text/decoder.h"

#include <algorithm>

#include "cajal/core/error.h"
#include "cajal/text/byte_alphabet.h"
#include "cajal/text/byte_fallback.h"
#include "cajal/text/fields.h"
#include "cajal/text/pre_tokenizer.h"
#include "cajal/text/unicode.h"

namespace cajal::text {
namespace {

using Strings = std::vector<std::string>;

std::string join(const Strings& strings, std::string_view between = "") {
  std::string out;
  for (size_t i = 0; i < strings.size(); ++i) {
    if (i > 0) out += between;
    out += strings[i];
  }
  return out;
}

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  if (text.find(from) == std::string::npos) return;
  text = Pattern::literal(std::string(from)).replace(text, to);
}

Strings byte_level(Strings tokens) {
  std::string bytes;
  for (const auto& token : tokens) bytes += token_bytes(token);
  std::string buffer;
  return {std::string(repair_utf8(bytes, buffer))};
}

// Runs of <0xNN> become the text they spell, or one U+FFFD a byte when they spell none.
Strings byte_fallback(Strings tokens) {
  Strings out;
  std::string run;
  const auto flush = [&] {
    if (run.empty()) return;
    if (valid_utf8_prefix(run) == run.size()) {
      out.push_back(run);
    } else {
      out.insert(out.end(), run.size(), "\xEF\xBF\xBD");
    }
    run.clear();
  };
  for (auto& token : tokens) {
    if (const int byte = named_byte(token); byte >= 0) {
      run.push_back(static_cast<char>(byte));
    } else {
      flush();
      out.push_back(std::move(token));
    }
  }
  flush();
  return out;
}

Decoder::Step strip(char32_t content, int64_t start, int64_t stop) {
  std::string sign;
  append_utf8(sign, content);
  return [=](Strings tokens) {
    for (auto& token : tokens) {
      std::string_view kept = token;
      for (int64_t i = 0; i < start && kept.starts_with(sign); ++i) kept.remove_prefix(sign.size());
      for (int64_t i = 0; i < stop && kept.ends_with(sign); ++i) kept.remove_suffix(sign.size());
      token = std::string(kept);
    }
    return tokens;
  };
}

Decoder::Step metaspace(const Metaspace& options) {
  std::string mark;
  append_utf8(mark, options.replacement);
  return [=](Strings tokens) {
    for (size_t i = 0; i < tokens.size(); ++i)
      replace_all(tokens[i], mark, i == 0 && options.scheme != PrependScheme::never ? "" : " ");
    return tokens;
  };
}

// The spaces that tokens of words leave before signs and English endings.
void clean_up(std::string& text) {
  static constexpr std::pair<const char*, const char*> kRules[] = {
      {" .", "."},   {" ?", "?"},     {" !", "!"},    {" ,", ","},
      {" ' ", "'"},  {" n't", "n't"}, {" 'm", "'m"},  {" do not", " don't"},
      {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
  for (const auto& [from, to] : kRules) replace_all(text, from, to);
}

Decoder::Step word_piece(const std::string& prefix, bool cleanup) {
  return [=](Strings tokens) {
    for (size_t i = 0; i < tokens.size(); ++i) {
      auto& token = tokens[i];
      if (i > 0) {
        if (token.starts_with(prefix)) {
          token.erase(0, prefix.size());
        } else {
          token = std::string(1, ' ').append(token);
        }
      }
      if (cleanup) clean_up(token);
    }
    return tokens;
  };
}

Decoder::Step bpe_suffix(const std::string& suffix) {
  return [=](Strings tokens) {
    for (size_t i = 0; i < tokens.size(); ++i)
      replace_all(tokens[i], suffix, i + 1 == tokens.size() ? "" : " ");
    return tokens;
  };
}

Decoder::Step ctc(const std::string& pad, const std::string& delimiter, bool cleanup) {
  return [=](Strings tokens) {
    tokens.erase(std::unique(tokens.begin(), tokens.end()), tokens.end());
    for (auto& token : tokens) {
      replace_all(token, pad, "");
      if (!cleanup) continue;
      clean_up(token);
      replace_all(token, delimiter, " ");
    }
    std::erase_if(tokens, [](const auto& token) { return token.empty(); });
    return tokens;
  };
}

Decoder::Step parse_decoder_step(const Json& json, const std::string& type,
                                 const std::string& where) {
  if (type == "ByteLevel") return byte_level;
  if (type == "ByteFallback") return byte_fallback;
  if (type == "Fuse") return [](Strings tokens) { return Strings{join(tokens)}; };
  if (type == "Metaspace") return metaspace(Metaspace::parse(json, where));
  if (type == "BPEDecoder") return bpe_suffix(field(json, "suffix", where, std::string("</w>")));
  if (type == "WordPiece")
    return word_piece(field(json, "prefix", where, std::string("##")),
                      field(json, "cleanup", where, true));
  if (type == "Strip")
    return strip(character_field(json, "content", where, ' '),
                 field(json, "start", where, int64_t{0}), field(json, "stop", where, int64_t{0}));
  if (type == "CTC")
    return ctc(field(json, "pad_token", where, std::string("<pad>")),
               field(json, "word_delimiter_token", where, std::string("|")),
               field(json, "cleanup", where, true));
  if (type == "Replace")
    return [pattern = pattern_field(json, where),
            content = required_field<std::string>(json, "content", where)](Strings tokens) {
      for (auto& token : tokens) token = pattern.replace(token, content);
      return tokens;
    };
  fail("{}.type: decoder '{}' is not known", where, type);
}

}  // namespace

Decoder Decoder::parse(const Json& json, const std::string& where) {
  Decoder decoder;
  decoder.joins_with_spaces_ = json.is_null();
  if (!json.is_null()) decoder.add(json, where);
  return decoder;
}

void Decoder::add(const Json& json, const std::string& where) {
  const auto type = type_of(json, where);
  if (type == "Sequence") {
    const Json& parts = list_field(json, "decoders", where);
    for (size_t i = 0; i < parts.size(); ++i)
      add(parts[i], fmt::format("{}.decoders[{}]", where, i));
    return;
  }
  byte_level_ = type == "ByteLevel";
  steps_.push_back(parse_decoder_step(json, type, where));
}

std::string Decoder::operator()(std::vector<std::string> tokens) const {
  for (const auto& step : steps_) tokens = step(std::move(tokens));
  return join(tokens, joins_with_spaces_ ? " " : "");
}

std::string token_bytes(std::string_view token) {
  std::string bytes;
  return from_byte_letters(token, bytes) ? bytes : std::string(token);
}

}  // namespace cajal::text
