#include <algorithm>
#include <bit>
#include <cstring>
#include <functional>

#include "cajal/core/error.h"
#include "cajal/text/byte_alphabet.h"
#include "cajal/text/byte_fallback.h"
#include "cajal/text/model.h"
#include "cajal/text/unicode.h"

namespace cajal::text {
namespace {

constexpr uint32_t kNoRank = UINT32_MAX;
constexpr uint32_t kNoPosition = UINT32_MAX;

// From how many symbols on a queue beats searching the row for its lowest rank.
constexpr size_t kQueueFrom = 64;

// The only sign at which pieces of a sentencepiece vocabulary part.
constexpr std::string_view kSpaceMark = "\xE2\x96\x81";  // U+2581

// (left, right) -> (rank, merged id), in one table of open addressing.
class MergeTable {
 public:
  struct Found {
    uint32_t rank = kNoRank;
    int32_t id = -1;
  };

  explicit MergeTable(size_t merges)
      : slots_(std::bit_ceil(merges * 2 + 16)), shift_(64 - std::countr_zero(slots_.size())) {}

  void set(int32_t left, int32_t right, Found found) {
    Slot& slot = slots_[home(key(left, right))];
    slot = {key(left, right), found};
  }

  Found find(int32_t left, int32_t right) const { return slots_[home(key(left, right))].found; }

 private:
  struct Slot {
    uint64_t key = UINT64_MAX;
    Found found;
  };

  static uint64_t key(int32_t left, int32_t right) {
    return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
  }
  // The slot that holds the key, or the empty one where it would go.
  size_t home(uint64_t key) const {
    size_t at = (key * 0x9E3779B97F4A7C15ull) >> shift_;
    while (slots_[at].key != key && slots_[at].key != UINT64_MAX)
      at = (at + 1) & (slots_.size() - 1);
    return at;
  }

  std::vector<Slot> slots_;
  int shift_;
};

class Bpe final : public Model {
 public:
  Bpe(std::shared_ptr<const Vocabulary> vocabulary, const std::vector<Merge>& merges,
      BpeOptions options);

  void encode(std::string_view piece, Scratch& scratch, Tokens& out) const override;

 private:
  void encode_word(std::string_view word, Scratch& scratch, Tokens& out) const;
  void merge_word(std::string_view word, Scratch& scratch) const;
  void start_symbols(std::string_view word, Scratch& scratch) const;
  bool add_byte_tokens(std::string_view symbol, std::vector<int32_t>& symbols) const;
  void merge_short(Scratch& scratch) const;
  void merge_long(Scratch& scratch) const;
  void index_whole_words();

  std::shared_ptr<const Vocabulary> vocabulary_;
  BpeOptions options_;
  MergeTable merges_;
  int32_t unk_ = -1;
  std::array<int32_t, 256> byte_symbols_{};  // of a raw byte (pieces of bytes) or ASCII character
  std::array<int32_t, 256> byte_tokens_{};   // of <0x00> .. <0xFF>
  Vocabulary whole_words_;                   // raw bytes of every token, for ignore_merges
  bool plain_ = false;                       // a symbol's token depends on the symbol alone
  bool parts_at_spaces_ = false;             // no merge reaches across the front of a space mark
};

Bpe::Bpe(std::shared_ptr<const Vocabulary> vocabulary, const std::vector<Merge>& merges,
         BpeOptions options)
    : vocabulary_(std::move(vocabulary)), options_(std::move(options)), merges_(merges.size()) {
  const auto& o = options_;
  const size_t prefix = o.continuing_subword_prefix.size();
  parts_at_spaces_ = !o.bytes && prefix == 0 && o.end_of_word_suffix.empty() && !o.ignore_merges &&
                     vocabulary_->find(kSpaceMark) >= 0;
  std::string joined;
  for (size_t rank = 0; rank < merges.size(); ++rank) {
    const auto& [left, right] = merges[rank];
    require(right.size() >= prefix, "{}: model.merges[{}]: '{}' lacks the prefix '{}'", o.where,
            rank, right, o.continuing_subword_prefix);
    joined.assign(left).append(right, prefix);
    std::array<int32_t, 3> ids{};
    size_t i = 0;
    for (const std::string* token : {&left, &right, static_cast<const std::string*>(&joined)}) {
      ids[i] = vocabulary_->find(*token);
      require(ids[i] >= 0, "{}: model.merges[{}]: '{}' is not in the vocabulary", o.where, rank,
              *token);
      ++i;
    }
    merges_.set(ids[0], ids[1], {static_cast<uint32_t>(rank), ids[2]});
    for (size_t at = joined.find(kSpaceMark, 1); parts_at_spaces_ && at != std::string::npos;
         at = joined.find(kSpaceMark, at + 1))
      parts_at_spaces_ = std::string_view(joined).substr(0, at).ends_with(kSpaceMark);
  }
  if (!o.unk_token.empty()) unk_ = vocabulary_->find(o.unk_token);
  plain_ = prefix == 0 && o.end_of_word_suffix.empty();
  for (size_t byte = 0; byte < 256; ++byte) {
    std::string symbol;
    append_utf8(symbol,
                o.bytes ? byte_letter(static_cast<uint8_t>(byte)) : static_cast<char32_t>(byte));
    byte_symbols_[byte] = vocabulary_->find(symbol);
  }
  byte_tokens_ = byte_token_ids(*vocabulary_);
  if (o.ignore_merges) index_whole_words();
}

void Bpe::index_whole_words() {
  vocabulary_->for_each([&](std::string_view token, int32_t id) {
    std::string raw(token);
    if (!options_.bytes || from_byte_letters(token, raw)) whole_words_.add(raw, id);
  });
}

void Bpe::encode(std::string_view piece, Scratch& scratch, Tokens& out) const {
  if (parts_at_spaces_) {
    size_t begin = 0;
    for (size_t at = piece.find(kSpaceMark, 1); at != std::string_view::npos;
         at = piece.find(kSpaceMark, at + 1)) {
      if (piece.substr(0, at).ends_with(kSpaceMark)) continue;
      encode_word(piece.substr(begin, at - begin), scratch, out);
      begin = at;
    }
    piece.remove_prefix(begin);
  }
  encode_word(piece, scratch, out);
}

void Bpe::encode_word(std::string_view word, Scratch& scratch, Tokens& out) const {
  if (word.empty()) return;
  if (word.size() > WordCache::kMaxBytes) {
    merge_word(word, scratch);
    out.ids.insert(out.ids.end(), scratch.symbols.begin(), scratch.symbols.end());
    return;
  }
  const auto key = WordCache::key(word);
  auto& slot = scratch.cache.slot(key);
  if (slot.key == key) {
    out.ids.insert(out.ids.end(), slot.ids.begin(), slot.ids.begin() + slot.count);
    return;
  }
  merge_word(word, scratch);
  const auto& symbols = scratch.symbols;
  out.ids.insert(out.ids.end(), symbols.begin(), symbols.end());
  if (symbols.size() > WordCache::kMaxIds) return;
  slot.key = key;
  slot.count = static_cast<uint32_t>(symbols.size());
  std::copy(symbols.begin(), symbols.end(), slot.ids.begin());
}

void Bpe::merge_word(std::string_view word, Scratch& scratch) const {
  if (options_.ignore_merges) {
    if (const int32_t id = whole_words_.find(word); id >= 0) {
      scratch.symbols.assign(1, id);
      return;
    }
  }
  start_symbols(word, scratch);
  if (scratch.symbols.size() < kQueueFrom) {
    merge_short(scratch);
  } else {
    merge_long(scratch);
  }
}

bool Bpe::add_byte_tokens(std::string_view symbol, std::vector<int32_t>& symbols) const {
  for (const char c : symbol)
    if (byte_tokens_[static_cast<uint8_t>(c)] < 0) return false;
  for (const char c : symbol) symbols.push_back(byte_tokens_[static_cast<uint8_t>(c)]);
  return true;
}

void Bpe::start_symbols(std::string_view word, Scratch& scratch) const {
  const auto& o = options_;
  auto& symbols = scratch.symbols;
  symbols.clear();
  // An unknown symbol waits for the next known one, so that neighbours can be fused into it.
  bool waiting = false;
  for (size_t at = 0; at < word.size();) {
    const auto lead = static_cast<uint8_t>(word[at]);
    const size_t bytes = o.bytes ? 1 : code_point_bytes(lead);
    const auto unit = word.substr(at, bytes);
    const bool first = at == 0;
    at += bytes;
    int32_t id = -1;
    std::string& symbol = scratch.key;
    const bool direct = plain_ && bytes == 1;
    if (direct) id = byte_symbols_[lead];
    if (!direct || id < 0) {
      symbol.clear();
      if (!first) symbol += o.continuing_subword_prefix;
      if (o.bytes) {
        append_utf8(symbol, byte_letter(lead));
      } else {
        symbol += unit;
      }
      if (at == word.size()) symbol += o.end_of_word_suffix;
      id = vocabulary_->find(symbol);
    }
    if (id >= 0) {
      if (waiting) symbols.push_back(unk_);
      waiting = false;
      symbols.push_back(id);
      continue;
    }
    if (o.byte_fallback && add_byte_tokens(symbol, symbols)) continue;
    if (o.unk_token.empty()) continue;
    require(unk_ >= 0, "{}: model.unk_token '{}' is not in the vocabulary", o.where, o.unk_token);
    if (waiting && !o.fuse_unk) symbols.push_back(unk_);
    waiting = true;
  }
  if (waiting) symbols.push_back(unk_);
}

void Bpe::merge_short(Scratch& scratch) const {
  auto& symbols = scratch.symbols;
  auto& merged = scratch.merged;
  auto& ranks = scratch.ranks;
  size_t count = symbols.size();
  if (count < 2) return;
  ranks.resize(count);
  merged.resize(count);
  const auto look_up = [&](size_t i) {
    const auto found = merges_.find(symbols[i], symbols[i + 1]);
    ranks[i] = found.rank;
    merged[i] = found.id;
  };
  for (size_t i = 0; i + 1 < count; ++i) look_up(i);
  while (count > 1) {
    size_t best = 0;
    for (size_t i = 1; i + 1 < count; ++i)
      if (ranks[i] < ranks[best]) best = i;
    if (ranks[best] == kNoRank) break;
    symbols[best] = merged[best];
    for (size_t i = best + 1; i + 1 < count; ++i) {
      symbols[i] = symbols[i + 1];
      ranks[i] = ranks[i + 1];
      merged[i] = merged[i + 1];
    }
    --count;
    if (best > 0) look_up(best - 1);
    if (best + 1 < count) look_up(best);
  }
  symbols.resize(count);
}

void Bpe::merge_long(Scratch& scratch) const {
  auto& symbols = scratch.symbols;
  auto& next = scratch.next;
  auto& previous = scratch.previous;
  auto& queue = scratch.queue;
  const size_t count = symbols.size();
  require(count < kNoPosition, "text: a word of {} symbols is too long", count);
  next.resize(count);
  previous.resize(count);
  queue.clear();
  const auto push = [&](uint32_t at, bool keep_order) {
    const auto found = merges_.find(symbols[at], symbols[next[at]]);
    if (found.rank == kNoRank) return;
    queue.push_back(static_cast<uint64_t>(found.rank) << 32 | at);
    if (keep_order) std::push_heap(queue.begin(), queue.end(), std::greater<>());
  };
  for (size_t i = 0; i < count; ++i) {
    next[i] = i + 1 < count ? static_cast<uint32_t>(i + 1) : kNoPosition;
    previous[i] = i > 0 ? static_cast<uint32_t>(i - 1) : kNoPosition;
  }
  for (size_t i = 0; i + 1 < count; ++i) push(static_cast<uint32_t>(i), false);
  std::make_heap(queue.begin(), queue.end(), std::greater<>());
  while (!queue.empty()) {
    const auto rank = static_cast<uint32_t>(queue.front() >> 32);
    const auto at = static_cast<uint32_t>(queue.front());
    std::pop_heap(queue.begin(), queue.end(), std::greater<>());
    queue.pop_back();
    const uint32_t right = next[at];
    if (symbols[at] < 0 || right == kNoPosition) continue;
    const auto found = merges_.find(symbols[at], symbols[right]);
    if (found.rank != rank) continue;  // the pair has gone since it was queued
    symbols[at] = found.id;
    symbols[right] = -1;
    next[at] = next[right];
    if (next[at] != kNoPosition) previous[next[at]] = at;
    if (previous[at] != kNoPosition) push(previous[at], true);
    if (next[at] != kNoPosition) push(at, true);
  }
  std::erase(symbols, -1);
}

}  // namespace

std::unique_ptr<Model> make_bpe(std::shared_ptr<const Vocabulary> vocabulary,
                                const std::vector<Merge>& merges, BpeOptions options) {
  return std::make_unique<Bpe>(std::move(vocabulary), merges, std::move(options));
}

}  // namespace cajal::text
