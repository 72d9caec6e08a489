#pragma once
#include <string>
#include <vector>

#include "cajal/data/toy_translate.h"
#include "cajal/models/seq2seq/seq2seq.h"

namespace cajal::train {

struct TranslationOptions {
  int64_t steps = 2500, batch = 64;
  double learning_rate = 1e-3;  // peak of the inverse-square-root schedule
  int64_t warmup = 400;
  double smoothing = 0.1, clip = 1;
};

/// Sentences of one batch, padded with 0: source [batch, words], what the decoder reads (begin
/// first) and what it must say (end last).
struct TranslationBatch {
  torch::Tensor source, input, target;
};
TranslationBatch batch_of(const std::vector<const data::SentencePair*>& pairs,
                          torch::Device device);

/// Trains by Adam (0.9, 0.98) on batches of sentences of like length; draws from libtorch's
/// generator. Throws Error when the loss is no number.
void fit(seq2seq::Seq2Seq& model, const std::vector<data::SentencePair>& pairs,
         const TranslationOptions& options, torch::Device device);

/// Greedy translations against their references; the shares in percent.
struct TranslationScore {
  double bleu = 0, chrf = 0, exact = 0;
  double token = 0, agreement = 0, ambiguity = 0;  // words right, given the true words before them
};
TranslationScore score(seq2seq::Seq2Seq& model, const std::vector<data::SentencePair>& pairs,
                       const std::vector<std::string>& words, torch::Device device);

}  // namespace cajal::train
