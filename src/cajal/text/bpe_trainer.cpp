#include "cajal/text/bpe_trainer.h"

#include <algorithm>
#include <bit>
#include <queue>

#include "cajal/core/error.h"
#include "cajal/core/progress.h"
#include "cajal/text/byte_alphabet.h"
#include "cajal/text/unicode.h"
#include "cajal/text/vocabulary.h"

namespace cajal::text {
namespace {

// Longer words are counted in parts, so that no single one makes every step slow.
constexpr size_t kMaxWordBytes = 256;

// A pair of neighbouring tokens, how often it occurs, and the words that hold or held it.
struct Pair {
  int32_t left, right;
  int64_t count;
  std::vector<uint32_t> words;
};

class PairTable {
 public:
  PairTable() : slots_(size_t{1} << 16, -1) {}

  uint32_t index(int32_t left, int32_t right) {
    size_t at = home(left, right);
    if (slots_[at] >= 0) return static_cast<uint32_t>(slots_[at]);
    if ((pairs.size() + 1) * 2 > slots_.size()) {
      slots_.assign(slots_.size() * 2, -1);
      for (size_t i = 0; i < pairs.size(); ++i)
        slots_[home(pairs[i].left, pairs[i].right)] = static_cast<int32_t>(i);
      at = home(left, right);
    }
    slots_[at] = static_cast<int32_t>(pairs.size());
    pairs.push_back({left, right, 0, {}});
    return static_cast<uint32_t>(pairs.size() - 1);
  }

  std::vector<Pair> pairs;

 private:
  size_t home(int32_t left, int32_t right) const {
    const uint64_t key =
        static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
    size_t at = (key * 0x9E3779B97F4A7C15ull) >> (64 - std::countr_zero(slots_.size()));
    while (slots_[at] >= 0) {
      const Pair& pair = pairs[static_cast<size_t>(slots_[at])];
      if (pair.left == left && pair.right == right) break;
      at = (at + 1) & (slots_.size() - 1);
    }
    return at;
  }

  std::vector<int32_t> slots_;
};

struct Candidate {
  int64_t count;
  int32_t left, right;
  uint32_t pair;

  bool operator<(const Candidate& other) const {  // the greatest is joined next
    if (count != other.count) return count < other.count;
    if (left != other.left) return left > other.left;
    return right > other.right;
  }
};

/// The words as rows of token ids, in which pairs are joined one after the other.
class Joining {
 public:
  void add_word(std::string_view bytes, int64_t count, const std::array<int32_t, 256>& byte_ids) {
    const auto word = static_cast<uint32_t>(words_.size());
    words_.push_back({symbols_.size(), static_cast<uint32_t>(bytes.size()), count});
    for (const char c : bytes) symbols_.push_back(byte_ids[static_cast<uint8_t>(c)]);
    const int32_t* row = symbols_.data() + words_.back().begin;
    for (size_t i = 0; i + 1 < bytes.size(); ++i) change(row[i], row[i + 1], count, word);
  }

  void queue_all() {
    for (uint32_t i = 0; i < table_.pairs.size(); ++i) offer(i);
    touched_.clear();
  }

  /// The most frequent pair that occurs at least twice.
  bool next(Candidate& best) {
    while (!queue_.empty()) {
      best = queue_.top();
      queue_.pop();
      if (best.count == table_.pairs[best.pair].count) return true;
      offer(best.pair);  // it has become rarer since it was queued
    }
    return false;
  }

  void join(const Candidate& pair, int32_t joined) {
    const auto words = std::move(table_.pairs[pair.pair].words);
    table_.pairs[pair.pair].words.clear();
    for (const uint32_t word : words) join_in(word, pair.left, pair.right, joined);
    table_.pairs[pair.pair].count = 0;
    std::ranges::sort(touched_);
    touched_.erase(std::unique(touched_.begin(), touched_.end()), touched_.end());
    for (const uint32_t i : touched_) offer(i);
    touched_.clear();
  }

 private:
  struct Row {
    size_t begin;
    uint32_t size;
    int64_t count;
  };

  void offer(uint32_t pair) {
    const Pair& p = table_.pairs[pair];
    if (p.count >= 2) queue_.push({p.count, p.left, p.right, pair});
  }

  void change(int32_t left, int32_t right, int64_t by, uint32_t word) {
    const uint32_t index = table_.index(left, right);
    Pair& pair = table_.pairs[index];
    pair.count += by;
    if (by < 0) return;
    if (pair.words.empty() || pair.words.back() != word) pair.words.push_back(word);
    touched_.push_back(index);
  }

  void join_in(uint32_t word, int32_t left, int32_t right, int32_t joined) {
    Row& row = words_[word];
    int32_t* s = symbols_.data() + row.begin;
    uint32_t out = 0;
    for (uint32_t i = 0; i < row.size;) {
      if (i + 1 == row.size || s[i] != left || s[i + 1] != right) {
        s[out++] = s[i++];
        continue;
      }
      if (out > 0) {
        change(s[out - 1], left, -row.count, word);
        change(s[out - 1], joined, row.count, word);
      }
      if (i + 2 < row.size) {
        change(right, s[i + 2], -row.count, word);
        change(joined, s[i + 2], row.count, word);
      }
      s[out++] = joined;
      i += 2;
    }
    row.size = out;
  }

  std::vector<int32_t> symbols_;
  std::vector<Row> words_;
  PairTable table_;
  std::priority_queue<Candidate> queue_;
  std::vector<uint32_t> touched_;  // pairs that became more frequent
};

}  // namespace

BpeTrainer::BpeTrainer(BpeTrainerOptions options)
    : options_(std::move(options)),
      pattern_(Pattern::regex(options_.pattern, "bpe trainer: pattern")) {
  const auto least = static_cast<int64_t>(options_.special.size()) + 256;
  require(options_.vocabulary >= least && options_.vocabulary <= Vocabulary::kMaxId,
          "bpe trainer: vocabulary is {}, expected {} to {}", options_.vocabulary, least,
          Vocabulary::kMaxId);
  int32_t id = 0;
  for (const auto& content : options_.special) {
    require(!content.empty(), "bpe trainer: a special token is empty");
    special_.add({.id = id++, .content = content, .searched = content, .special = true},
                 "bpe trainer");
  }
  rebuild(size_t{1} << 16);
}

size_t BpeTrainer::slot(std::string_view word) const {
  size_t at = hash_bytes(word) & (slots_.size() - 1);
  while (slots_[at] >= 0) {
    const Word& known = words_[static_cast<size_t>(slots_[at])];
    if (std::string_view(arena_).substr(known.begin, known.bytes) == word) break;
    at = (at + 1) & (slots_.size() - 1);
  }
  return at;
}

void BpeTrainer::rebuild(size_t slots) {
  slots_.assign(slots, -1);
  for (size_t i = 0; i < words_.size(); ++i)
    slots_[slot(std::string_view(arena_).substr(words_[i].begin, words_[i].bytes))] =
        static_cast<int32_t>(i);
}

void BpeTrainer::drop_rare_words() {
  std::vector<int64_t> counts;
  for (const auto& word : words_) counts.push_back(word.count);
  std::ranges::nth_element(counts, counts.begin() + static_cast<std::ptrdiff_t>(counts.size() / 2));
  const int64_t limit = counts[counts.size() / 2];
  std::string arena;
  std::erase_if(words_, [&](const Word& word) { return word.count <= limit; });
  for (auto& word : words_) {
    const size_t begin = arena.size();
    arena.append(arena_, word.begin, word.bytes);
    word.begin = begin;
  }
  arena_ = std::move(arena);
  rebuild(slots_.size());
}

void BpeTrainer::count(std::string_view word) {
  const size_t at = slot(word);
  if (slots_[at] >= 0) {
    ++words_[static_cast<size_t>(slots_[at])].count;
    return;
  }
  slots_[at] = static_cast<int32_t>(words_.size());
  words_.push_back({arena_.size(), static_cast<uint32_t>(word.size()), 1});
  arena_.append(word);
  if (words_.size() > kMaxWords) drop_rare_words();
  if (words_.size() * 2 > slots_.size()) rebuild(slots_.size() * 2);
}

void BpeTrainer::add(std::string_view text) {
  std::string repaired;
  text = repair_utf8(text, repaired);
  Progress progress("counting words", static_cast<int64_t>(text.size()), "B");
  size_t reported = 0;
  special_.split(text, false, [&](std::string_view stretch, const AddedToken* token) {
    if (token) return;
    pattern_.segments(stretch, [&](std::string_view word, bool) {
      const auto done = static_cast<size_t>(word.data() - text.data());
      for (; word.size() > kMaxWordBytes; word.remove_prefix(kMaxWordBytes))
        count(word.substr(0, kMaxWordBytes));
      if (!word.empty()) count(word);
      if (done - reported < (size_t{1} << 20)) return;
      reported = done;
      progress.set(static_cast<int64_t>(done));
    });
  });
  progress.set(static_cast<int64_t>(text.size()));
}

TrainedBpe BpeTrainer::train() const {
  require(!words_.empty(), "bpe trainer: no text to learn from");
  TrainedBpe trained;
  Vocabulary ids;
  const auto add = [&](std::string token) {
    const auto id = static_cast<int32_t>(trained.tokens.size());
    if (!ids.add(token, id)) return ids.find(token);
    trained.tokens.push_back(std::move(token));
    return id;
  };
  for (const auto& token : options_.special) add(token);
  // The bytes' letters in the order of their code points.
  std::array<std::pair<char32_t, uint8_t>, 256> letters;
  for (size_t byte = 0; byte < 256; ++byte)
    letters[byte] = {byte_letter(static_cast<uint8_t>(byte)), static_cast<uint8_t>(byte)};
  std::ranges::sort(letters);
  std::array<int32_t, 256> byte_ids{};
  for (const auto& [letter, byte] : letters) {
    std::string token;
    append_utf8(token, letter);
    byte_ids[byte] = add(token);
  }

  Joining joining;
  for (const auto& word : words_)
    joining.add_word(std::string_view(arena_).substr(word.begin, word.bytes), word.count, byte_ids);
  joining.queue_all();
  Progress progress("learning", options_.vocabulary, "tokens");
  Candidate best{};
  while (static_cast<int64_t>(trained.tokens.size()) < options_.vocabulary && joining.next(best)) {
    const std::string& left = trained.tokens[static_cast<size_t>(best.left)];
    const std::string& right = trained.tokens[static_cast<size_t>(best.right)];
    trained.merges.emplace_back(left, right);
    joining.join(best, add(left + right));
    progress.set(static_cast<int64_t>(trained.tokens.size()));
  }
  return trained;
}

}  // namespace cajal::text
