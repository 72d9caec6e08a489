#pragma once
#include <map>
#include <string>
#include <vector>

#include "cajal/core/options.h"
#include "cajal/data/polarity.h"
#include "cajal/models/lm/transformer.h"

namespace cajal::train {

/// Preset nano-cls of dossier _sparse-ffn, with the wide FFNs that dossier moefication asks for.
struct SentenceOptions {
  int64_t width = 128, layers = 4, heads = 4, neurons = 1024;
  int64_t words = 32;          // of a sentence that are read
  int64_t vocabulary = 20000;  // most frequent words; 0 is no word, 1 any other one
  std::string law = "relu";
  int64_t batch = 32, steps = 1500;
  double learning_rate = 1e-3, weight_decay = 0.1;
};
CAJAL_OPTIONS(SentenceOptions, width, layers, heads, neurons, words, vocabulary, law, batch, steps,
              learning_rate, weight_decay)

/// A small transformer over words whose mean residual, normed, goes through a linear map to 2
/// classes.
class SentenceClassifier {
 public:
  /// The vocabulary is that of `train`; weights by `seed`.
  SentenceClassifier(const SentenceOptions& options, const data::LabelledTexts& train,
                     uint64_t seed);

  /// Trains on the sentences in an order drawn from libtorch's generator: AdamW, cosine to a tenth,
  /// clip 1. Throws Error when the loss is no number.
  void fit();

  /// Share of the texts whose class is found.
  double accuracy(const data::LabelledTexts& texts, lm::Hooks* hooks = nullptr);

  /// The ids of the training sentences one behind the other, without what fills them up.
  std::vector<int32_t> running_text() const;

  const SentenceOptions options;
  lm::Transformer model{nullptr};

 private:
  torch::Tensor ids_of(const data::LabelledTexts& texts) const;  // i64 [texts, words]
  torch::Tensor logits(const torch::Tensor& ids, lm::Hooks* hooks);

  std::map<std::string, int64_t, std::less<>> vocabulary_;
  torch::Tensor ids_, labels_, head_, bias_;
};

}  // namespace cajal::train
