#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace cajal::data {

/// Texts with a class each.
struct LabelledTexts {
  std::vector<std::string> texts;
  std::vector<int> labels;  // [texts]
};

struct SentencePolarity {
  LabelledTexts train, valid, test;
};

/// The sentence-polarity set: 1 for praise, 0 for blame. Each class is shuffled with `seed`; 4265
/// of it train, the next 533 validate, the last 533 test; classes alternate in the result. Throws
/// Error when the set is not here or has another length.
SentencePolarity read_sentence_polarity(uint64_t seed = 0);

}  // namespace cajal::data
