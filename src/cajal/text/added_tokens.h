#pragma once
#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "cajal/text/function_ref.h"
#include "cajal/text/trie.h"
#include "cajal/text/vocabulary.h"

namespace cajal::text {

/// A token that is found in the text before anything else happens to it.
struct AddedToken {
  int32_t id = -1;
  std::string content;
  std::string searched;      // the content, normalised if `normalized`; this is what it decodes to
  bool single_word = false;  // only between non-word characters
  bool lstrip = false;       // takes the spaces on its left
  bool rstrip = false;       // takes the spaces on its right
  bool normalized = false;   // looked for, normalised, in normalised text
  bool special = false;      // left out of decoded text on request
};

/// Finds added tokens, the longest of those that start leftmost. Const use is thread-safe.
class AddedTokens {
 public:
  /// Throws Error naming `where` when the id or the content is another added token's.
  void add(AddedToken token, const std::string& where);

  /// The token with this id or text, or null.
  const AddedToken* find(int32_t id) const;
  const AddedToken* find(std::string_view content) const;

  const std::vector<AddedToken>& all() const { return tokens_; }

  /// Cuts `text` into stretches of text (token null) and added tokens, in order; those of
  /// normalised or raw text as asked. A stretch may be empty only when `text` is.
  using Sink = FunctionRef<void(std::string_view stretch, const AddedToken* token)>;
  void split(std::string_view text, bool normalized, Sink sink) const;

 private:
  struct Finder {
    Trie trie;  // text -> index of a token
    std::array<bool, 256> first{};
    bool empty = true;
  };

  std::vector<AddedToken> tokens_;
  Vocabulary by_content_;
  std::unordered_map<int32_t, size_t> by_id_;  // -> index into tokens_
  std::array<Finder, 2> finders_;              // [normalized]
};

}  // namespace cajal::text
