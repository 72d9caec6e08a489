#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "cajal/core/error.h"
#include "cajal/data/assoc_recall.h"
#include "cajal/data/function_texts.h"

namespace cajal::data {
namespace {

TEST(AssocRecall, EveryAnswerIsTheValueOfItsKey) {
  const AssocRecallOptions o{.pairs = 5, .queries = 3, .tokens = 40};
  for (uint64_t seed = 0; seed < 20; ++seed) {
    const auto one = assoc_recall(o, seed);
    ASSERT_EQ(one.ids.size(), 40u);
    std::map<int32_t, int32_t> value;
    for (size_t i = 0; i + 6 < one.ids.size(); ++i)
      if (one.ids[i] < o.keys) value[one.ids[i]] = one.ids[i + 1];
    EXPECT_EQ(value.size(), 5u);
    int asked = 0;
    for (size_t i = 0; i < one.ids.size(); ++i)
      if (one.answers[i] >= 0) {
        ++asked;
        EXPECT_EQ(one.answers[i], value[one.ids[i]]);
      }
    EXPECT_EQ(asked, 3);
  }
}

TEST(AssocRecall, RefusesPartsThatDoNotFit) {
  EXPECT_THROW(assoc_recall({.pairs = 40}, 1), Error);
  EXPECT_THROW(assoc_recall({.pairs = 8, .queries = 9}, 1), Error);
  EXPECT_THROW(assoc_recall({.pairs = 8, .queries = 4, .tokens = 20}, 1), Error);
}

TEST(FunctionTexts, AreOfTheirKindAndTheSameForTheSameSeed) {
  for (const std::string function : kGeneratedFunctions) {
    const auto text = function_text(function, 500, 3);
    EXPECT_EQ(text.size(), 500u) << function;
    EXPECT_EQ(text, function_text(function, 500, 3)) << function;
    EXPECT_NE(text, function_text(function, 500, 4)) << function;
  }
  const auto sums = function_text("arith", 400, 1);
  const auto line = sums.substr(0, sums.find('\n'));
  EXPECT_NE(line.find('='), std::string::npos);
  EXPECT_THROW(function_text("poetry", 10, 1), Error);
  EXPECT_THROW(function_text("arith", 0, 1), Error);
}

TEST(FunctionTexts, BracketsCloseInOrder) {
  const auto text = function_text("brackets", 2000, 1);
  std::string open;
  for (const char c : text.substr(0, text.rfind('\n'))) {
    const std::string all = "([{)]}";
    if (c == '\n') {
      EXPECT_TRUE(open.empty());
    } else if (const auto at = all.find(c); at < 3) {
      open += all[at + 3];
    } else {
      ASSERT_FALSE(open.empty());
      EXPECT_EQ(open.back(), c);
      open.pop_back();
    }
  }
}

}  // namespace
}  // namespace cajal::data
