#include "cajal/text/pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "cajal/core/error.h"
#include "cajal/text/unicode.h"

namespace cajal::text {
namespace {

// Steps that one match may take before the pattern counts as runaway.
constexpr uint32_t kMatchLimit = 20'000'000;
constexpr size_t kJitStackBytes = size_t{16} << 20;

// A repeat such as {1,3} with a plus behind it repeats again in the dialect of tokenizer files, but
// is possessive in PCRE2. Returns the same repeat for PCRE2 and how much of `rest` it took, 0 if
// none.
size_t translate_repeat(std::string_view rest, std::string& out) {
  const size_t close = rest.find('}');
  if (close == std::string_view::npos || rest.substr(close + 1, 1) != "+") return 0;
  const auto bounds = rest.substr(1, close - 1);
  if (bounds.find_first_not_of("0123456789,") != std::string_view::npos) return 0;
  const auto least = bounds.substr(0, bounds.find(','));
  if (least != "" && least != "0" && least != "1") return 0;
  out += least == "1" ? "+" : "*";
  return close + 2;
}

// The dialect of tokenizer files differs from PCRE2's in what \s and \w hold, in \h, \u and {n,m}+.
std::string to_pcre2(std::string_view expression, const std::string& where) {
  std::string out;
  bool in_class = false;
  const auto set = [&](std::string_view members) {
    out += in_class ? std::string(members) : fmt::format("[{}]", members);
  };
  for (size_t i = 0; i < expression.size(); ++i) {
    const char c = expression[i];
    if (c == '\\' && i + 1 < expression.size()) {
      const char escaped = expression[++i];
      switch (escaped) {
        case 's':
          set(R"(\t-\r \x{85}\p{Z})");
          break;
        case 'w':
          set(R"(\p{L}\p{M}\p{Nd}\p{Nl}\p{Pc})");
          break;
        case 'h':
          set("0-9a-fA-F");
          break;
        case 'S':
          out += in_class ? R"(\S)" : R"([^\t-\r \x{85}\p{Z}])";
          break;
        case 'W':
          out += in_class ? R"(\W)" : R"([^\p{L}\p{M}\p{Nd}\p{Nl}\p{Pc}])";
          break;
        case 'u':
          out += fmt::format("\\x{{{}}}", expression.substr(i + 1, 4));
          i += 4;
          break;
        default:
          out += c;
          out += escaped;
      }
      continue;
    }
    if (c == '[') {
      const bool named = in_class && expression.substr(i + 1, 1) == ":";
      require(!in_class || named, "{}: pattern '{}' nests character classes, which are not read",
              where, expression);
      const size_t close = named ? expression.find(":]", i) : std::string_view::npos;
      if (close != std::string_view::npos) {
        out += expression.substr(i, close + 2 - i);
        i = close + 1;
        continue;
      }
      in_class = true;
      out += c;
      if (expression.substr(i + 1, 1) == "^") out += expression[++i];
      if (expression.substr(i + 1, 1) == "]") out += expression[++i];
      continue;
    }
    if (c == ']') in_class = false;
    if (c == '{' && !in_class) {
      if (const size_t taken = translate_repeat(expression.substr(i), out); taken > 0) {
        i += taken - 1;
        continue;
      }
    }
    require(!in_class || c != '&' || expression.substr(i + 1, 1) != "&",
            "{}: pattern '{}' intersects character classes, which is not read", where, expression);
    out += c;
  }
  return out;
}

// What a thread needs to match any pattern; made once, since a text may be cut into many pieces.
struct MatchState {
  pcre2_match_data* data =
      pcre2_match_data_create(1, nullptr);  // the whole match is all we ask for
  pcre2_match_context* context = pcre2_match_context_create(nullptr);
  pcre2_jit_stack* stack = pcre2_jit_stack_create(32 << 10, kJitStackBytes, nullptr);

  MatchState() {
    require(data && context && stack, "text: no memory to match a pattern");
    pcre2_set_match_limit(context, kMatchLimit);
    pcre2_jit_stack_assign(context, nullptr, stack);
  }
  ~MatchState() {
    pcre2_match_data_free(data);
    pcre2_match_context_free(context);
    pcre2_jit_stack_free(stack);
  }
  MatchState(const MatchState&) = delete;
  MatchState& operator=(const MatchState&) = delete;
};

}  // namespace

struct Pattern::Compiled {
  pcre2_code* code = nullptr;
  std::string where;
  ~Compiled() { pcre2_code_free(code); }
};

Pattern Pattern::literal(std::string text) {
  Pattern pattern;
  pattern.literal_ = std::move(text);
  return pattern;
}

Pattern Pattern::regex(const std::string& expression, const std::string& where) {
  Pattern pattern;
  pattern.scanner_ = scanner_for(expression);
  if (pattern.scanner_) return pattern;
  auto compiled = std::make_shared<Compiled>();
  compiled->where = where;
  const std::string source = to_pcre2(expression, where);
  int error = 0;
  size_t offset = 0;
  compiled->code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(source.data()), source.size(),
                                 PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE, &error, &offset, nullptr);
  if (!compiled->code) {
    char reason[256] = "";
    pcre2_get_error_message(error, reinterpret_cast<PCRE2_UCHAR*>(reason), sizeof reason);
    fail("{}: pattern '{}' is not a regular expression: {}", where, expression, reason);
  }
  // Without a just-in-time compiler on this machine the interpreter does the same, slower.
  pcre2_jit_compile(compiled->code, PCRE2_JIT_COMPLETE);
  pattern.compiled_ = std::move(compiled);
  return pattern;
}

void Pattern::segments(std::string_view text, SegmentSink sink) const {
  if (text.empty()) return;
  if (scanner_) {
    for (size_t at = 0; at < text.size();) {
      const size_t end = scanner_(text, at);
      sink(text.substr(at, end - at), true);
      at = end;
    }
  } else if (compiled_) {
    regex_segments(text, sink);
  } else {
    size_t at = 0;
    while (!literal_.empty()) {
      const size_t found = text.find(literal_, at);
      if (found == std::string_view::npos) break;
      if (found > at) sink(text.substr(at, found - at), false);
      sink(text.substr(found, literal_.size()), true);
      at = found + literal_.size();
    }
    if (at < text.size()) sink(text.substr(at), false);
  }
}

void Pattern::regex_segments(std::string_view text, SegmentSink sink) const {
  thread_local const MatchState state;
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  size_t emitted = 0, from = 0;
  bool matched = false;  // an empty match right behind a match is no match of its own
  while (from <= text.size()) {
    const int rc = pcre2_match(compiled_->code, subject, text.size(), from, PCRE2_NO_UTF_CHECK,
                               state.data, state.context);
    if (rc == PCRE2_ERROR_NOMATCH) break;
    require(rc >= 0, "{}: the pattern takes too many steps on this text (PCRE2 error {})",
            compiled_->where, rc);
    // Read before the sink runs, which may match other patterns with the same state.
    const size_t begin = pcre2_get_ovector_pointer(state.data)[0];
    const size_t end = pcre2_get_ovector_pointer(state.data)[1];
    require(begin <= end && begin >= from, "{}: the pattern matches backwards", compiled_->where);
    const bool empty = begin == end;
    if (!(empty && matched && begin == emitted)) {
      if (begin > emitted) sink(text.substr(emitted, begin - emitted), false);
      sink(text.substr(begin, end - begin), true);
      emitted = end;
      matched = true;
    }
    from = end;
    if (empty) {
      if (from == text.size()) break;
      from += code_point_bytes(static_cast<unsigned char>(text[from]));
    }
  }
  if (emitted < text.size()) sink(text.substr(emitted), false);
}

std::string Pattern::replace(std::string_view text, std::string_view content) const {
  std::string out;
  out.reserve(text.size());
  segments(text,
           [&](std::string_view segment, bool match) { out.append(match ? content : segment); });
  return out;
}

}  // namespace cajal::text
