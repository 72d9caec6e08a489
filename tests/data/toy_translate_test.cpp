#include "cajal/data/toy_translate.h"

#include <gtest/gtest.h>

#include <set>

#include "cajal/core/error.h"

namespace cajal::data {
namespace {

ToyTranslation small() { return toy_translate({.train = 500, .valid = 50, .test = 50}); }

TEST(ToyTranslate, IsTheSameForTheSameSeed) {
  const auto a = small(), b = small();
  EXPECT_EQ(a.words, b.words);
  for (size_t i = 0; i < a.train.size(); ++i) EXPECT_EQ(a.train[i].target, b.train[i].target);
}

TEST(ToyTranslate, SentencesOfTheTestAreNew) {
  const auto all = small();
  std::set<std::vector<int32_t>> seen;
  for (const auto& pair : all.train) seen.insert(pair.source);
  for (const auto& pair : all.test) EXPECT_FALSE(seen.contains(pair.source));
}

TEST(ToyTranslate, EveryWordIsNamedAndEveryTargetWordAsksForSomething) {
  const auto all = small();
  std::set<Asks> asked;
  for (const auto& pair : all.train) {
    EXPECT_GE(pair.source.size(), 5u);
    EXPECT_LE(pair.source.size(), 40u);
    ASSERT_EQ(pair.asks.size(), pair.target.size());
    asked.insert(pair.asks.begin(), pair.asks.end());
    for (const int32_t id : pair.target) EXPECT_LT(static_cast<size_t>(id), all.words.size());
  }
  EXPECT_EQ(asked.size(), 3u);
}

TEST(ToyTranslate, RefusesCountsThatAreNotPositive) {
  EXPECT_THROW(toy_translate({.train = 0}), Error);
}

}  // namespace
}  // namespace cajal::data
