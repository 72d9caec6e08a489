#include <algorithm>

#include "cajal/core/error.h"
#include "cajal/text/byte_fallback.h"
#include "cajal/text/model.h"
#include "cajal/text/unicode.h"

namespace cajal::text {
namespace {

constexpr std::string_view kPieceMark = "\xE2\x96\x81";  // U+2581

class SentencePieces final : public Model {
 public:
  SentencePieces(std::shared_ptr<const Vocabulary> vocabulary, std::vector<double> scores,
                 SentencePieceOptions options)
      : vocabulary_(std::move(vocabulary)),
        scores_(std::move(scores)),
        options_(std::move(options)),
        byte_tokens_(byte_token_ids(*vocabulary_)) {
    vocabulary_->for_each([&](std::string_view token, int32_t) {
      for (size_t at = token.find(kPieceMark, 1); parts_at_spaces_ && at != token.npos;
           at = token.find(kPieceMark, at + 1))
        parts_at_spaces_ = token.substr(0, at).ends_with(kPieceMark);
    });
  }

  void encode(std::string_view piece, Scratch& scratch, Tokens& out) const override {
    size_t begin = 0;
    for (size_t at = piece.find(kPieceMark, 1); parts_at_spaces_ && at != piece.npos;
         at = piece.find(kPieceMark, at + 1)) {
      if (piece.substr(0, at).ends_with(kPieceMark)) continue;
      encode_word(piece.substr(begin, at - begin), scratch, out);
      begin = at;
    }
    encode_word(piece.substr(begin), scratch, out);
  }

 private:
  struct Symbol {
    uint32_t begin, bytes, previous, next;
  };
  struct Pair {
    double score;
    uint32_t left, right, bytes;
    // The best pair is the one of the highest score, of equals the leftmost.
    bool operator<(const Pair& other) const {
      return score != other.score ? score < other.score : left > other.left;
    }
  };
  static constexpr uint32_t kNone = UINT32_MAX;

  void encode_word(std::string_view word, Scratch& scratch, Tokens& out) const {
    if (word.empty()) return;
    const size_t first = out.ids.size();
    WordCache::Slot* slot = nullptr;
    WordCache::Key key;
    if (word.size() <= WordCache::kMaxBytes) {
      key = WordCache::key(word);
      slot = &scratch.cache.slot(key);
      if (slot->key == key) {
        out.ids.insert(out.ids.end(), slot->ids.begin(), slot->ids.begin() + slot->count);
        return;
      }
    }
    merge(word, out);
    const size_t count = out.ids.size() - first;
    if (!slot || count > WordCache::kMaxIds) return;
    slot->key = key;
    slot->count = static_cast<uint32_t>(count);
    std::copy(out.ids.begin() + static_cast<std::ptrdiff_t>(first), out.ids.end(),
              slot->ids.begin());
  }

  void merge(std::string_view word, Tokens& out) const {
    std::vector<Symbol> symbols;
    for (uint32_t at = 0; at < word.size();) {
      const auto bytes = static_cast<uint32_t>(std::min<size_t>(
          code_point_bytes(static_cast<unsigned char>(word[at])), word.size() - at));
      const auto index = static_cast<uint32_t>(symbols.size());
      symbols.push_back({at, bytes, index == 0 ? kNone : index - 1, index + 1});
      at += bytes;
    }
    symbols.back().next = kNone;
    std::vector<Pair> queue;
    const auto consider = [&](uint32_t left, uint32_t right) {
      if (left == kNone || right == kNone) return;
      const uint32_t bytes = symbols[left].bytes + symbols[right].bytes;
      const int32_t id = vocabulary_->find(word.substr(symbols[left].begin, bytes));
      if (id < 0) return;
      queue.push_back({scores_[static_cast<size_t>(id)], left, right, bytes});
      std::push_heap(queue.begin(), queue.end());
    };
    for (uint32_t i = 0; i + 1 < symbols.size(); ++i) consider(i, i + 1);
    while (!queue.empty()) {
      std::pop_heap(queue.begin(), queue.end());
      const Pair best = queue.back();
      queue.pop_back();
      auto &left = symbols[best.left], &right = symbols[best.right];
      // Either side may have become part of another symbol since.
      if (left.bytes == 0 || right.bytes == 0 || left.bytes + right.bytes != best.bytes) continue;
      left.bytes = best.bytes;
      right.bytes = 0;
      left.next = right.next;
      if (right.next != kNone) symbols[right.next].previous = best.left;
      consider(left.previous, best.left);
      consider(best.left, left.next);
    }
    for (uint32_t i = 0; i != kNone; i = symbols[i].next)
      add(word.substr(symbols[i].begin, symbols[i].bytes), out);
  }

  void add(std::string_view symbol, Tokens& out) const {
    if (const int32_t id = vocabulary_->find(symbol); id >= 0) return out.add(id);
    for (const char c : symbol) {
      int32_t id = byte_tokens_[static_cast<uint8_t>(c)];
      if (id < 0) id = vocabulary_->find(std::string_view(&c, 1));
      if (id < 0) id = options_.unk_id;
      require(id >= 0, "{}: the vocabulary has no token for byte {}", options_.where,
              static_cast<int>(static_cast<uint8_t>(c)));
      out.add(id);
    }
  }

  std::shared_ptr<const Vocabulary> vocabulary_;
  std::vector<double> scores_;
  SentencePieceOptions options_;
  std::array<int32_t, 256> byte_tokens_;
  bool parts_at_spaces_ = true;  // no token reaches across the front of a space mark
};

}  // namespace

std::unique_ptr<Model> make_sentence_pieces(std::shared_ptr<const Vocabulary> vocabulary,
                                            std::vector<double> scores,
                                            SentencePieceOptions options) {
  require(scores.size() >= static_cast<size_t>(vocabulary->size()), "{}: {} scores for {} tokens",
          options.where, scores.size(), vocabulary->size());
  return std::make_unique<SentencePieces>(std::move(vocabulary), std::move(scores),
                                          std::move(options));
}

}  // namespace cajal::text
