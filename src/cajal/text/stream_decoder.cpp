#include "cajal/text/decoder.h"
#include "cajal/text/tokenizer.h"
#include "cajal/text/unicode.h"

namespace cajal::text {
namespace {

constexpr size_t kMaxHeldTokens = 16;

}  // namespace

StreamDecoder::StreamDecoder(Tokenizer tokenizer, Specials specials)
    : tokenizer_(std::move(tokenizer)), specials_(specials) {}

std::string StreamDecoder::push_bytes(int32_t id) {
  if (!tokenizer_.contains(id) || (specials_ == Specials::without && tokenizer_.is_special(id)))
    return "";
  held_ += token_bytes(tokenizer_.token_text(id));
  const size_t ready = held_.size() - unfinished_utf8(held_);
  std::string buffer;
  std::string text(repair_utf8(std::string_view(held_).substr(0, ready), buffer));
  held_.erase(0, ready);
  return text;
}

std::string StreamDecoder::push(int32_t id) {
  if (tokenizer_.decodes_bytes()) return push_bytes(id);
  // What the first tokens of a text read like may depend on their place, so the tokens that were
  // told last stay in front of the new ones.
  ids_.push_back(id);
  const std::string told = tokenizer_.decode(std::span(ids_).first(told_), specials_);
  const std::string all = tokenizer_.decode(ids_, specials_);
  // A character takes at most four tokens; what is still broken behind many of them stays broken.
  const bool unfinished = all.ends_with("\xEF\xBF\xBD") && ids_.size() - told_ < kMaxHeldTokens;
  if (all.size() <= told.size() || unfinished) return "";
  ids_.erase(ids_.begin(), ids_.begin() + static_cast<std::ptrdiff_t>(told_));
  told_ = ids_.size();
  return all.substr(told.size());
}

std::string StreamDecoder::finish() {
  std::string text;
  if (tokenizer_.decodes_bytes()) {
    std::string buffer;
    text = repair_utf8(held_, buffer);
  } else {
    const std::string told = tokenizer_.decode(std::span(ids_).first(told_), specials_);
    const std::string all = tokenizer_.decode(ids_, specials_);
    if (all.size() > told.size()) text = all.substr(told.size());
  }
  held_.clear();
  ids_.clear();
  told_ = 0;
  return text;
}

}  // namespace cajal::text
