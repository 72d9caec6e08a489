#include "cajal/text/pre_tokenizer.h"

#include "cajal/core/error.h"
#include "cajal/core/options.h"
#include "cajal/text/byte_alphabet.h"
#include "cajal/text/fields.h"
#include "cajal/text/pattern.h"
#include "cajal/text/unicode.h"

namespace cajal::text {
namespace {

/// What becomes of the matches of a split pattern.
enum class Behavior { removed, isolated, merged_with_previous, merged_with_next, contiguous };

}  // namespace
}  // namespace cajal::text

CAJAL_ENUM(cajal::text::Behavior, {cajal::text::Behavior::removed, "Removed"},
           {cajal::text::Behavior::isolated, "Isolated"},
           {cajal::text::Behavior::merged_with_previous, "MergedWithPrevious"},
           {cajal::text::Behavior::merged_with_next, "MergedWithNext"},
           {cajal::text::Behavior::contiguous, "Contiguous"})
CAJAL_ENUM(cajal::text::PrependScheme, {cajal::text::PrependScheme::never, "never"},
           {cajal::text::PrependScheme::first, "first"},
           {cajal::text::PrependScheme::always, "always"})

namespace cajal::text {
namespace {

// Hands on a part of a piece.
void emit(Piece whole, std::string_view part, PieceSink sink) {
  if (!part.empty()) sink({part, whole.at_start && part.data() == whole.text.data()});
}

// Joins the segments of a pattern into pieces.
class Joiner {
 public:
  Joiner(Piece whole, Behavior behavior, PieceSink sink)
      : whole_(whole), behavior_(behavior), sink_(sink), open_(whole.text.substr(0, 0)) {}

  void add(std::string_view segment, bool match) {
    switch (behavior_) {
      case Behavior::removed:
        if (!match) emit(whole_, segment, sink_);
        break;
      case Behavior::isolated:
        emit(whole_, segment, sink_);
        break;
      case Behavior::contiguous:
        extend(segment, match == previous_match_);
        break;
      case Behavior::merged_with_previous:
        extend(segment, match && !previous_match_);
        break;
      case Behavior::merged_with_next:
        // Of neighbouring matches only the last one joins what follows.
        extend(segment, !match && previous_match_);
        break;
    }
    previous_match_ = match;
  }

  void finish() { emit(whole_, open_, sink_); }

 private:
  void extend(std::string_view segment, bool join) {
    if (join || open_.empty()) {
      open_ = {open_.empty() ? segment.data() : open_.data(), open_.size() + segment.size()};
    } else {
      emit(whole_, open_, sink_);
      open_ = segment;
    }
  }

  Piece whole_;
  Behavior behavior_;
  PieceSink sink_;
  std::string_view open_;  // the piece that a later segment may still extend
  bool previous_match_ = false;
};

PreTokenizer::Stage split(Pattern pattern, Behavior behavior, bool invert) {
  if (behavior == Behavior::isolated) {
    return [=](Piece piece, PieceSink sink) {
      pattern.segments(piece.text,
                       [&](std::string_view segment, bool) { emit(piece, segment, sink); });
    };
  }
  return [=](Piece piece, PieceSink sink) {
    Joiner joiner(piece, behavior, sink);
    pattern.segments(piece.text, [&](std::string_view segment, bool match) {
      joiner.add(segment, match != invert);
    });
    joiner.finish();
  };
}

// Splits at single code points.
template <class Matches>
PreTokenizer::Stage split_where(Matches matches, Behavior behavior) {
  return [=](Piece piece, PieceSink sink) {
    Joiner joiner(piece, behavior, sink);
    const auto text = piece.text;
    size_t begin = 0;
    for (size_t at = 0; at < text.size();) {
      const auto [c, bytes] = code_point_at(text, at);
      if (matches(c)) {
        if (begin < at) joiner.add(text.substr(begin, at - begin), false);
        joiner.add(text.substr(at, bytes), true);
        begin = at + bytes;
      }
      at += bytes;
    }
    if (begin < text.size()) joiner.add(text.substr(begin), false);
    joiner.finish();
  };
}

// \w+|[^\w\s]+
void words_and_signs(Piece piece, PieceSink sink) {
  enum class Kind { space, word, sign };
  const auto text = piece.text;
  const auto kind_of = [](char32_t c) {
    return is_word(c) ? Kind::word : is_space(c) ? Kind::space : Kind::sign;
  };
  size_t begin = 0;
  Kind open = Kind::space;
  for (size_t at = 0; at < text.size();) {
    const auto [c, bytes] = code_point_at(text, at);
    const Kind kind = kind_of(c);
    if (kind != open) {
      if (open != Kind::space) emit(piece, text.substr(begin, at - begin), sink);
      begin = at;
      open = kind;
    }
    at += bytes;
  }
  if (open != Kind::space) emit(piece, text.substr(begin), sink);
}

PreTokenizer::Stage fixed_length(size_t length) {
  return [=](Piece piece, PieceSink sink) {
    size_t begin = 0, count = 0;
    for (size_t at = 0; at < piece.text.size();) {
      at += code_point_bytes(static_cast<unsigned char>(piece.text[at]));
      if (++count < length && at < piece.text.size()) continue;
      emit(piece, piece.text.substr(begin, at - begin), sink);
      begin = at;
      count = 0;
    }
  };
}

PreTokenizer::Stage metaspace_stage(const Metaspace& options) {
  std::string mark;
  append_utf8(mark, options.replacement);
  const auto space = Pattern::literal(" ");
  const auto cut = split(Pattern::literal(mark), Behavior::merged_with_next, false);
  return [=](Piece piece, PieceSink sink) {
    std::string marked = space.replace(piece.text, mark);
    const bool wanted = options.scheme == PrependScheme::always ||
                        (options.scheme == PrependScheme::first && piece.at_start);
    if (wanted && !marked.starts_with(mark)) marked.insert(0, mark);
    const Piece whole{marked, piece.at_start};
    if (options.split) {
      cut(whole, sink);
    } else {
      emit(whole, marked, sink);
    }
  };
}

// The stage of "ByteLevel" before its letters are written.
PreTokenizer::Stage byte_level(bool add_prefix_space, bool use_regex) {
  const auto cut =
      split(Pattern::regex(std::string(kGpt2Pattern), "ByteLevel"), Behavior::isolated, false);
  return [=](Piece piece, PieceSink sink) {
    std::string spaced;
    if (add_prefix_space && !piece.text.starts_with(' ')) {
      spaced.reserve(piece.text.size() + 1);
      spaced.append(" ").append(piece.text);
      piece.text = spaced;
    }
    if (use_regex) {
      cut(piece, sink);
    } else {
      emit(piece, piece.text, sink);
    }
  };
}

void write_letters(Piece piece, PieceSink sink) {
  const std::string letters = to_byte_letters(piece.text);
  sink({letters, piece.at_start});
}

Behavior behavior_field(const Json& json, const std::string& where, Behavior fallback) {
  return field(json, "behavior", where, fallback);
}

PreTokenizer::Stage parse_stage(const Json& json, const std::string& type,
                                const std::string& where) {
  if (type == "Split") {
    require(json.contains("behavior"), "{}: field 'behavior' is missing", where);
    return split(pattern_field(json, where), behavior_field(json, where, Behavior::removed),
                 field(json, "invert", where, false));
  }
  if (type == "ByteLevel")
    return byte_level(field(json, "add_prefix_space", where, true),
                      field(json, "use_regex", where, true));
  if (type == "Metaspace") return metaspace_stage(Metaspace::parse(json, where));
  if (type == "Whitespace") return words_and_signs;
  if (type == "WhitespaceSplit") return split_where(is_space, Behavior::removed);
  if (type == "Punctuation")
    return split_where(is_punctuation, behavior_field(json, where, Behavior::isolated));
  if (type == "Digits")
    return split_where(is_number, field(json, "individual_digits", where, false)
                                      ? Behavior::isolated
                                      : Behavior::contiguous);
  if (type == "CharDelimiterSplit" || type == "Delimiter") {
    const char32_t delimiter = character_field(json, "delimiter", where, 0);
    return split_where([=](char32_t c) { return c == delimiter; }, Behavior::removed);
  }
  if (type == "FixedLength") {
    const auto length = field(json, "length", where, int64_t{5});
    require(length > 0, "{}.length: expected a positive number, got {}", where, length);
    return fixed_length(static_cast<size_t>(length));
  }
  if (type == "BertPreTokenizer") {
    return [words = split_where(is_space, Behavior::removed),
            signs = split_where(is_punctuation, Behavior::isolated)](Piece piece, PieceSink sink) {
      words(piece, [&](Piece word) { signs(word, sink); });
    };
  }
  fail("{}.type: pre-tokenizer '{}' is not known", where, type);
}

}  // namespace

Metaspace Metaspace::parse(const Json& json, const std::string& where) {
  Metaspace options;
  options.replacement = character_field(json, "replacement", where, options.replacement);
  options.split = field(json, "split", where, true);
  options.scheme = field(json, "prepend_scheme", where, options.scheme);
  // The older form of the file says the same with a flag.
  if (!field(json, "add_prefix_space", where, true)) options.scheme = PrependScheme::never;
  return options;
}

PreTokenizer PreTokenizer::parse(const Json& json, const std::string& where) {
  PreTokenizer pre_tokenizer;
  if (!json.is_null()) pre_tokenizer.add(json, where);
  return pre_tokenizer;
}

void PreTokenizer::add(const Json& json, const std::string& where) {
  const auto type = type_of(json, where);
  if (type == "Sequence") {
    const Json& parts = list_field(json, "pretokenizers", where);
    for (size_t i = 0; i < parts.size(); ++i)
      add(parts[i], fmt::format("{}.pretokenizers[{}]", where, i));
    return;
  }
  writes_letters_last_ = type == "ByteLevel";
  stages_.push_back(parse_stage(json, type, where));
  if (writes_letters_last_) stages_.push_back(write_letters);
}

bool PreTokenizer::keep_raw_bytes() {
  if (!writes_letters_last_) return false;
  stages_.pop_back();
  writes_letters_last_ = false;
  return true;
}

void PreTokenizer::run(size_t stage, Piece piece, PieceSink sink) const {
  if (stage == stages_.size()) {
    if (!piece.text.empty()) sink(piece);
    return;
  }
  stages_[stage](piece, [&, stage](Piece part) { run(stage + 1, part, sink); });
}

}  // namespace cajal::text
