#pragma once
#include <string>
#include <unordered_map>
#include <vector>

#include "cajal/core/options.h"
#include "cajal/layers/recurrent/show_attend_tell.h"

/// Phrases for sets of regions: a describer p(phrase | regions), a language model p(phrase), and
/// the search for the phrase with the most mutual information.
/// Source: Hernandez et al. 2022, arXiv 2201.11114; dossier milan.
namespace cajal::caption {

using Words = std::vector<int64_t>;
inline constexpr int64_t kPad = 0, kStart = 1, kStop = 2, kUnknown = 3;

/// The word in lower case without the common endings of the plural.
std::string lemma(const std::string& word);

/// Words by number; 0 to 3 are pad, start, stop and unknown.
class Vocabulary {
 public:
  /// Every lemma of the phrases, in alphabetical order.
  explicit Vocabulary(const std::vector<std::string>& phrases);
  Words encode(const std::string& phrase) const;  // without start and stop
  std::string decode(const Words& words) const;   // up to the stop word
  int64_t size() const { return static_cast<int64_t>(words_.size()); }

 private:
  std::vector<std::string> words_;
  std::unordered_map<std::string, int64_t> ids_;
};

/// Phrases as one batch: i64 [phrases, longest + 1], start in front or stop behind, padded.
torch::Tensor with_start(const std::vector<Words>& phrases);
torch::Tensor with_stop(const std::vector<Words>& phrases);

enum class Strategy {
  greedy,     // the likeliest word at each step
  sample,     // a word drawn at each step
  beam,       // beam search for the likeliest phrase
  rerank,     // of the beam's phrases the largest log p(d | E) - lambda log p(d)
  mi_greedy,  // greedy on log p(w | E) - lambda log p(w), word by word
  mi_beam     // beam search on that
};

struct DescribeOptions {
  Strategy strategy = Strategy::rerank;
  double lambda = 0.2;  // 1: pure pointwise mutual information
  int64_t beam = 50;
  int64_t length = 15;  // most words, the stop word counted
};

struct Description {
  Words words;           // without start and stop
  double score = 0;      // what the strategy maximises
  bool finished = true;  // false: the length was reached before a stop word
};

/// The phrase of each item of features [batch, regions, features] on the models' device. Both
/// modules are put into evaluation. Throws Error for sizes that do not fit each other.
std::vector<Description> describe(ShowAttendTell& describer, LstmLanguageModel& language,
                                  const torch::Tensor& features, const DescribeOptions& options);

/// All phrases of a beam search under p(d | E), the likeliest first: [batch][beam].
std::vector<std::vector<Description>> beam_search(ShowAttendTell& describer,
                                                  const torch::Tensor& features, int64_t beam,
                                                  int64_t length);

/// Σ log p of the words and the stop word under each model; features [phrases, regions, features].
/// `length` > 0: phrases of so many words were cut off, so their stop word does not count.
torch::Tensor log_likelihood(ShowAttendTell& describer, const torch::Tensor& features,
                             const std::vector<Words>& phrases);
torch::Tensor log_likelihood(LstmLanguageModel& language, const std::vector<Words>& phrases,
                             int64_t length = 0);

}  // namespace cajal::caption

CAJAL_ENUM(cajal::caption::Strategy, {cajal::caption::Strategy::greedy, "greedy"},
           {cajal::caption::Strategy::sample, "sample"}, {cajal::caption::Strategy::beam, "beam"},
           {cajal::caption::Strategy::rerank, "rerank"},
           {cajal::caption::Strategy::mi_greedy, "mi_greedy"},
           {cajal::caption::Strategy::mi_beam, "mi_beam"})

namespace cajal::caption {
CAJAL_OPTIONS(DescribeOptions, strategy, lambda, beam, length)
}  // namespace cajal::caption
