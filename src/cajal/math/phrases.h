#pragma once
#include <cstdint>
#include <vector>

#include "cajal/core/torch.h"

/// How close short phrases come to what several people wrote; words are numbers.
namespace cajal::math {

using Phrase = std::vector<int64_t>;

/// Corpus BLEU-n in percent with several references a phrase, as sacrebleu counts: n-grams clipped
/// by the most of any reference, the length of the nearest reference, orders without a hit smoothed
/// to 1 / 2, 1 / 4, ... hits. Throws Error when the numbers of phrases differ or are 0, or n is not
/// 1 to 4. Source: Papineni et al. 2002; Post 2018, arXiv 1804.08771.
double bleu(const std::vector<Phrase>& outputs, const std::vector<std::vector<Phrase>>& references,
            int64_t n = 4);

/// F-score of the longest common subsequence of two phrases, 0 to 1. Source: Lin 2004.
double rouge_l(const Phrase& output, const Phrase& reference);
/// Mean over phrases of the best of their references.
double rouge_l(const std::vector<Phrase>& outputs,
               const std::vector<std::vector<Phrase>>& references);

struct BertScore {
  double precision = 0, recall = 0, f1 = 0;
};
/// Greedy matching of contextual word embeddings by cosine, no idf: output [words, width],
/// reference [words, width] of any language model. Throws Error for empty or unlike sizes.
/// Source: Zhang et al. 2020, arXiv 1904.09675.
BertScore bert_score(const torch::Tensor& output, const torch::Tensor& reference);

}  // namespace cajal::math
