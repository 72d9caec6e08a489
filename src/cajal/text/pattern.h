#pragma once
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "cajal/text/function_ref.h"
#include "cajal/text/scanners.h"

namespace cajal::text {

/// What a pattern says of a text: the segments cover it in order, each a match or what lies
/// between.
using SegmentSink = FunctionRef<void(std::string_view segment, bool match)>;

/// A split or replace pattern: a literal string, a regular expression with a hand-written scanner,
/// or any other regular expression (PCRE2 with Unicode properties, read as the Ruby dialect that
/// tokenizer files are written in). Const use is thread-safe.
class Pattern {
 public:
  static Pattern literal(std::string text);
  /// Throws Error naming `where` when the expression does not compile.
  static Pattern regex(const std::string& expression, const std::string& where);

  /// `text` must be valid UTF-8. Throws Error when an expression needs more steps than are allowed.
  void segments(std::string_view text, SegmentSink sink) const;

  /// The text with every match replaced by `content`.
  std::string replace(std::string_view text, std::string_view content) const;

  /// Set when every text is covered by matches alone.
  Scanner scanner() const { return scanner_; }

 private:
  struct Compiled;

  void regex_segments(std::string_view text, SegmentSink sink) const;

  std::string literal_;
  Scanner scanner_ = nullptr;
  std::shared_ptr<const Compiled> compiled_;
};

}  // namespace cajal::text
