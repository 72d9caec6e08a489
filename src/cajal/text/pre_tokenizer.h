#pragma once
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "cajal/core/json.h"
#include "cajal/text/function_ref.h"

namespace cajal::text {

/// A stretch of normalised text on its way to the model.
struct Piece {
  std::string_view text;
  bool at_start;  // the whole text begins here
};
using PieceSink = FunctionRef<void(Piece)>;

/// Cuts normalised text into the pieces that the model reads: stages, each cutting the pieces of
/// the stage before. Const use is thread-safe.
class PreTokenizer {
 public:
  /// Reads the "pre_tokenizer" of a tokenizer file (null: one piece). `where` names it in errors.
  static PreTokenizer parse(const Json& json, const std::string& where);

  /// If the last stage writes bytes as letters, drops it and returns true: from now on the pieces
  /// keep their raw bytes.
  bool keep_raw_bytes();

  /// Calls `sink` with each piece that is not empty, in order.
  void operator()(Piece text, PieceSink sink) const { run(0, text, sink); }

  using Stage = std::function<void(Piece, PieceSink)>;

 private:
  void add(const Json& json, const std::string& where);
  void run(size_t stage, Piece piece, PieceSink sink) const;

  std::vector<Stage> stages_;
  bool writes_letters_last_ = false;
};

/// How a text gets its space mark in front: "first" only where the whole text begins.
enum class PrependScheme { never, first, always };

/// The options that the pre-tokenizer and the decoder "Metaspace" share.
struct Metaspace {
  char32_t replacement = 0x2581;
  PrependScheme scheme = PrependScheme::always;
  bool split = true;

  static Metaspace parse(const Json& json, const std::string& where);
};

}  // namespace cajal::text
