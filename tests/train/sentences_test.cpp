#include "cajal/train/sentences.h"

#include <gtest/gtest.h>

#include "cajal/core/error.h"

namespace cajal::train {
namespace {

const SentenceOptions kSmall = {.width = 16,
                                .layers = 1,
                                .heads = 2,
                                .neurons = 32,
                                .words = 6,
                                .vocabulary = 32,
                                .batch = 8,
                                .steps = 60,
                                .learning_rate = 1e-2};

data::LabelledTexts some_texts() {
  data::LabelledTexts out;
  for (const char* thing : {"film", "plot", "cast", "end"})
    for (const auto& [word, label] : {std::pair("fine", 1), {"dull", 0}})
      out.texts.push_back(std::string("a ") + word + " " + thing), out.labels.push_back(label);
  return out;
}

TEST(SentenceClassifier, LearnsTheWordsThatTellItsClassesApart) {
  torch::manual_seed(1);
  SentenceClassifier classifier(kSmall, some_texts(), 1);
  classifier.fit();
  EXPECT_EQ(classifier.accuracy(some_texts()), 1);
}

TEST(SentenceClassifier, RunningTextHoldsTheWordsAndNoFilling) {
  const SentenceClassifier classifier(kSmall, some_texts(), 1);
  const auto text = classifier.running_text();
  EXPECT_EQ(text.size(), 24u);
  EXPECT_EQ(std::count(text.begin(), text.end(), 0), 0);
}

TEST(SentenceClassifier, RefusesToTrainOnNothing) {
  EXPECT_THROW(SentenceClassifier(kSmall, {}, 1), Error);
}

}  // namespace
}  // namespace cajal::train
