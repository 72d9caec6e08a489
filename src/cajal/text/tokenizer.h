#pragma once
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cajal/text/tokenizer_file.h"

namespace cajal::text {

/// Whether special tokens take part: those that frame a text when it is encoded, all of them when
/// ids are decoded.
enum class Specials { with, without };

/// What special tokens that are written out in a text are.
enum class Written { tokens, text };

/// A token and the text it stands for in what was encoded.
struct Token {
  int32_t id;
  std::string text;
};

/// Turns text into the ids that a language model reads, and back, with the same result as the
/// Hugging Face tokenizers library for the same files. A copy shares everything with its original;
/// const use is thread-safe.
class Tokenizer {
 public:
  /// Loads from a folder or one of the files in it; see read_tokenizer.
  /// Throws Error naming the file and field of what is missing, wrong or not known.
  static Tokenizer open(const std::filesystem::path& path);

  /// Loads from the text of a tokenizer.json; `where` names it in errors.
  static Tokenizer parse(std::string_view tokenizer_json, const std::string& where);

  /// The ids of a text. Special tokens written out in the text are found and become their ids,
  /// unless they are to be read as any text. Bytes that are not UTF-8 count as U+FFFD.
  /// Throws Error when the text has a word that the vocabulary cannot express at all.
  std::vector<int32_t> encode(std::string_view text, Specials specials = Specials::with,
                              Written written = Written::tokens) const;

  /// As `encode`, with the text that each token stands for.
  std::vector<Token> encode_tokens(std::string_view text, Specials specials = Specials::with,
                                   Written written = Written::tokens) const;

  /// The text of ids, always valid UTF-8. Ids without a token have no text.
  std::string decode(std::span<const int32_t> ids, Specials specials = Specials::with) const;

  bool contains(int64_t id) const;                 // whether a token has this id
  std::string_view token_text(int32_t id) const;   // throws Error when none has
  int32_t token_id(std::string_view token) const;  // -1 when there is no such token
  bool is_special(int32_t id) const;
  bool is_added(int32_t id) const;  // looked for in the text before anything else
  int32_t size() const;             // one past the largest id
  const SpecialIds& specials() const;

  /// Whether decoded text is the bytes of the tokens one behind the other.
  bool decodes_bytes() const;

 private:
  struct State;
  explicit Tokenizer(std::shared_ptr<const State> state) : state_(std::move(state)) {}
  static std::shared_ptr<State> build(TokenizerFile file);

  std::shared_ptr<const State> state_;
};

/// Decodes ids as they come. What it returns, put together, is what `decode` gives for all ids;
/// no part ends inside a character.
class StreamDecoder {
 public:
  explicit StreamDecoder(Tokenizer tokenizer, Specials specials = Specials::without);

  /// The text that became certain with this id; often empty.
  std::string push(int32_t id);
  /// The text still held back, once no id follows.
  std::string finish();

 private:
  std::string push_bytes(int32_t id);

  Tokenizer tokenizer_;
  Specials specials_;
  std::string held_;          // bytes of a character that is not finished
  std::vector<int32_t> ids_;  // since the last text that was returned, and those before it
  size_t told_ = 0;           // of these, how many the returned text covers
};

}  // namespace cajal::text
