#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "cajal/core/options.h"
#include "cajal/text/added_tokens.h"
#include "cajal/text/model.h"
#include "cajal/text/pattern.h"

namespace cajal::text {

struct BpeTrainerOptions {
  int64_t vocabulary = 8192;                             // tokens, special ones included
  std::vector<std::string> special = {"<|endoftext|>"};  // get the first ids, in this order
  std::string pattern = std::string(kGpt2Pattern);       // cuts text into words
};
CAJAL_OPTIONS(BpeTrainerOptions, vocabulary, special, pattern)

/// What training gives. Tokens are written in byte letters; the index is the id.
struct TrainedBpe {
  std::vector<std::string> tokens;
  std::vector<Merge> merges;  // in rank order
};

/// Learns a byte-level BPE vocabulary: counts the words of all texts, then again and again joins
/// the pair of neighbouring tokens that is most frequent (of equals, the one of lowest ids). The
/// same texts give the same vocabulary on every machine. Memory is bounded by the number of
/// different words, of which the rarest go when there are more than kMaxWords. Source: Sennrich
/// 2016, arXiv 1508.07909; Radford 2019 (bytes).
class BpeTrainer {
 public:
  static constexpr size_t kMaxWords = size_t{1} << 23;

  /// Throws Error when the vocabulary cannot hold the special tokens and the 256 bytes.
  explicit BpeTrainer(BpeTrainerOptions options);

  /// Counts the words of one text. Special tokens in it are not learned from; no word reaches
  /// across two texts.
  void add(std::string_view text);

  /// Learns until the vocabulary is full or no pair occurs twice. Throws Error when no word was
  /// seen.
  TrainedBpe train() const;

  const BpeTrainerOptions& options() const { return options_; }
  size_t words() const { return words_.size(); }  // different ones

 private:
  struct Word {
    size_t begin;
    uint32_t bytes;
    int64_t count;
  };

  void count(std::string_view word);
  size_t slot(std::string_view word) const;
  void rebuild(size_t slots);
  void drop_rare_words();

  BpeTrainerOptions options_;
  Pattern pattern_;
  AddedTokens special_;
  std::string arena_;
  std::vector<Word> words_;
  std::vector<int32_t> slots_;  // open addressing: index of a word, or -1
};

/// The tokenizer.json of a trained vocabulary.
std::string to_tokenizer_json(const TrainedBpe& trained, const BpeTrainerOptions& options);

/// Writes a new folder with tokenizer.json and tokenizer_config.json; the first special token
/// begins and ends texts. Throws Error when the folder exists and is not empty.
void write_tokenizer(const std::filesystem::path& folder, const TrainedBpe& trained,
                     const BpeTrainerOptions& options);

}  // namespace cajal::text
