#include "cajal/text/added_tokens.h"

#include <algorithm>

#include "cajal/core/error.h"
#include "cajal/text/unicode.h"

namespace cajal::text {
namespace {

size_t spaces_before(std::string_view text, size_t at) {
  while (at > 0) {
    const auto [c, bytes] = code_point_before(text, at);
    if (!is_space(c)) break;
    at -= bytes;
  }
  return at;
}

size_t spaces_behind(std::string_view text, size_t at) {
  while (at < text.size()) {
    const auto [c, bytes] = code_point_at(text, at);
    if (!is_space(c)) break;
    at += bytes;
  }
  return at;
}

bool stands_alone(std::string_view text, size_t begin, size_t end) {
  return (begin == 0 || !is_word(code_point_before(text, begin).value)) &&
         (end == text.size() || !is_word(code_point_at(text, end).value));
}

}  // namespace

void AddedTokens::add(AddedToken token, const std::string& where) {
  require(token.id >= 0 && token.id <= Vocabulary::kMaxId,
          "{}: added token '{}' has id {}, expected 0 to {}", where, token.content, token.id,
          Vocabulary::kMaxId);
  if (const AddedToken* other = find(token.id))
    fail("{}: added tokens '{}' and '{}' both have id {}", where, other->content, token.content,
         token.id);
  require(by_content_.add(token.content, token.id), "{}: added token '{}' appears twice", where,
          token.content);
  if (const auto& searched = token.searched; !searched.empty()) {
    Finder& finder = finders_[token.normalized];
    finder.trie.add(searched, static_cast<int32_t>(tokens_.size()));
    finder.first[static_cast<uint8_t>(searched[0])] = true;
    finder.empty = false;
  }
  by_id_.emplace(token.id, tokens_.size());
  tokens_.push_back(std::move(token));
}

const AddedToken* AddedTokens::find(int32_t id) const {
  const auto found = by_id_.find(id);
  return found == by_id_.end() ? nullptr : &tokens_[found->second];
}

const AddedToken* AddedTokens::find(std::string_view content) const {
  const int32_t id = by_content_.find(content);
  return id < 0 ? nullptr : find(id);
}

void AddedTokens::split(std::string_view text, bool normalized, Sink sink) const {
  const Finder& finder = finders_[normalized];
  size_t open = 0;  // start of the stretch that no token has taken yet
  for (size_t at = 0; !finder.empty && at < text.size();) {
    if (!finder.first[static_cast<uint8_t>(text[at])]) {
      ++at;
      continue;
    }
    int32_t longest = Trie::kNone;
    size_t end = at;
    int32_t node = Trie::kRoot;
    for (size_t i = at; i < text.size(); ++i) {
      node = finder.trie.step(node, static_cast<uint8_t>(text[i]));
      if (node == Trie::kNone) break;
      if (finder.trie.value(node) == Trie::kNone) continue;
      longest = finder.trie.value(node);
      end = i + 1;
    }
    if (longest == Trie::kNone) {
      ++at;
      continue;
    }
    const AddedToken& token = tokens_[static_cast<size_t>(longest)];
    size_t begin = at, stop = end;
    at = end;  // a match that is refused still takes its text from the search
    if (token.single_word && !stands_alone(text, begin, stop)) continue;
    // Spaces that the token before has taken stay its own.
    if (token.lstrip) begin = std::max(spaces_before(text, begin), open);
    if (token.rstrip) stop = spaces_behind(text, stop);
    if (open < begin) sink(text.substr(open, begin - open), nullptr);
    sink(text.substr(begin, stop - begin), &token);
    open = stop;
  }
  if (open < text.size() || text.empty()) sink(text.substr(open), nullptr);
}

}  // namespace cajal::text
