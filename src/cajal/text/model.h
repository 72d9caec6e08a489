#pragma once
#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cajal/text/vocabulary.h"

namespace cajal::text {

/// Ids of a text under way. A token usually reads as its vocabulary entry; where it stands for
/// other text (an unknown word, a special token with the spaces it took) `surfaces` holds that, if
/// kept.
struct Tokens {
  std::vector<int32_t> ids;
  std::vector<std::pair<size_t, std::string>> surfaces;  // (index into ids, text), ascending
  bool keep_surfaces = false;

  void add(int32_t id) { ids.push_back(id); }
  void add(int32_t id, std::string_view surface) {
    if (keep_surfaces) surfaces.emplace_back(ids.size(), surface);
    ids.push_back(id);
  }
};

/// Remembers the ids of short words. Bounded: a word takes the place of another one.
class WordCache {
 public:
  static constexpr size_t kMaxBytes = 15;
  static constexpr size_t kMaxIds = 5;

  struct Key {
    uint64_t low = 0, high = 0;  // the word's bytes; the top byte of `high` is their number
    bool operator==(const Key&) const = default;
  };
  struct Slot {
    Key key;
    uint32_t count = 0;
    std::array<int32_t, kMaxIds> ids{};
  };

  WordCache() : slots_(size_t{1} << kBits) {}

  /// The key of a word of 1 to kMaxBytes bytes.
  static Key key(std::string_view word);
  /// The slot where that word's ids are, or can be put.
  Slot& slot(Key key);

 private:
  static constexpr int kBits = 16;
  std::vector<Slot> slots_;
};

/// Buffers that one call at a time uses, kept so that a later call finds its words again.
struct Scratch {
  WordCache cache;
  std::vector<int32_t> symbols, merged;
  std::vector<uint32_t> ranks, previous, next;
  std::vector<uint64_t> queue;
  struct Best {
    double score;
    int32_t begin, id;
  };
  std::vector<Best> best;
  std::string key;

  size_t bytes() const {  // of the buffers that grow with the longest word
    return (symbols.capacity() + merged.capacity() + ranks.capacity() + previous.capacity() +
            next.capacity()) *
               4 +
           queue.capacity() * 8 + best.capacity() * sizeof(Best);
  }
};

/// Turns one piece of text into tokens. Const use is thread-safe, with one Scratch for each thread.
class Model {
 public:
  virtual ~Model() = default;
  virtual void encode(std::string_view piece, Scratch& scratch, Tokens& out) const = 0;
};

struct BpeOptions {
  std::string where;                      // names the file in errors
  std::string unk_token;                  // empty: unknown symbols are dropped
  std::string continuing_subword_prefix;  // before every symbol but a word's first
  std::string end_of_word_suffix;         // behind a word's last symbol
  bool fuse_unk = false;                  // neighbouring unknown symbols become one
  bool byte_fallback = false;             // unknown symbols become <0x00> .. <0xFF>
  bool ignore_merges = false;             // a word that is a token stays whole
  bool bytes = false;                     // pieces are raw bytes, the vocabulary is in byte letters
};

using Merge = std::pair<std::string, std::string>;

/// Byte-pair encoding: merges neighbouring symbols, the pair of lowest rank first and of these the
/// leftmost. Source: Sennrich 2016, arXiv 1508.07909. Throws Error when a merge names no token.
std::unique_ptr<Model> make_bpe(std::shared_ptr<const Vocabulary> vocabulary,
                                const std::vector<Merge>& merges, BpeOptions options);

struct WordPieceOptions {
  std::string where;
  std::string unk_token = "[UNK]";
  std::string continuing_subword_prefix = "##";
  size_t max_input_chars_per_word = 100;  // longer words are unknown
};

/// WordPiece: the longest token from the left, again and again; a word that does not come out whole
/// is one unknown token. Throws Error when unk_token is no token.
std::unique_ptr<Model> make_word_piece(std::shared_ptr<const Vocabulary> vocabulary,
                                       WordPieceOptions options);

/// Whole words. Throws Error at a word that is no token when `unk_token` is none either.
std::unique_ptr<Model> make_word_level(std::shared_ptr<const Vocabulary> vocabulary,
                                       std::string where, std::string unk_token);

struct UnigramOptions {
  std::string where;
  int32_t unk_id = -1;         // -1: none, and unknown text is an Error
  bool byte_fallback = false;  // unknown text becomes <0x00> .. <0xFF>
};

/// Unigram: the segmentation whose scores (log probabilities) add up to most. scores [id].
/// Source: Kudo 2018, arXiv 1804.10959.
std::unique_ptr<Model> make_unigram(std::shared_ptr<const Vocabulary> vocabulary,
                                    std::vector<double> scores, UnigramOptions options);

struct SentencePieceOptions {
  std::string where;
  int32_t unk_id = -1;  // of a byte that the vocabulary cannot express; -1: that is an Error
};

/// SentencePiece's BPE: merges neighbouring symbols, the pair whose token has the highest score
/// first and of these the leftmost; what is no token then becomes <0x00> .. <0xFF>. scores [id].
/// Source: Kudo and Richardson 2018, arXiv 1808.06226.
std::unique_ptr<Model> make_sentence_pieces(std::shared_ptr<const Vocabulary> vocabulary,
                                            std::vector<double> scores,
                                            SentencePieceOptions options);

}  // namespace cajal::text
