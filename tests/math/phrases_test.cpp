#include "cajal/math/phrases.h"

#include <gtest/gtest.h>

#include <cmath>

#include "cajal/core/error.h"
#include "cajal/core/random.h"
#include "cajal/math/quantile_sketch.h"

namespace cajal::math {
namespace {

TEST(Bleu, OfAReferenceItselfIsHundred) {
  EXPECT_NEAR(bleu({{1, 2, 3, 4, 5}}, {{{9, 9}, {1, 2, 3, 4, 5}}}), 100, 1e-9);
}

// 3 of 4 words, 1 of 3 pairs; length 4 against the nearest of 4 and 7.
TEST(Bleu, CountsClippedGramsOfAllReferences) {
  const std::vector<Phrase> said = {{1, 2, 1, 7}};
  const std::vector<std::vector<Phrase>> known = {{{1, 2, 5, 5}, {1, 5, 1, 5, 5, 5, 5}}};
  EXPECT_NEAR(bleu(said, known, 1), 75, 1e-9);
  EXPECT_NEAR(bleu(said, known, 2), 100 * std::sqrt(0.75 / 3), 1e-9);
}

// Orders without a hit: 1/2, then 1/4 of a hit, as sacrebleu's "exp" smoothing.
TEST(Bleu, SmoothsOrdersWithoutAHit) {
  EXPECT_NEAR(bleu({{1, 2, 1, 7}}, {{{1, 2, 5, 5}}}, 4),
              100 * std::pow(0.5 * (1.0 / 3) * (0.5 / 2) * (0.25 / 1), 0.25), 1e-9);
}

TEST(Bleu, PunishesShortPhrases) {
  EXPECT_NEAR(bleu({{1, 2}}, {{{1, 2, 3}}}, 1), 100 * std::exp(1 - 1.5), 1e-9);
}

TEST(Bleu, RefusesUnlikeNumbers) {
  EXPECT_THROW(bleu({}, {}), Error);
  EXPECT_THROW(bleu({{1}}, {{}}), Error);
  EXPECT_THROW(bleu({{1}}, {{{1}}}, 5), Error);
}

TEST(RougeL, IsTheLongestCommonSubsequence) {
  EXPECT_NEAR(rouge_l({1, 2, 3, 4}, {1, 9, 3, 4, 9}), 2.0 * 3 / 9, 1e-12);
  EXPECT_EQ(rouge_l(Phrase{}, Phrase{1}), 0);
  EXPECT_EQ(rouge_l({{1, 2}}, {{{3}, {1, 2}}}), 1);
}

TEST(BertScore, MatchesEachWordWithItsNearest) {
  const auto a = torch::tensor({{1.0, 0.0}, {0.0, 2.0}});
  const auto b = torch::tensor({{3.0, 0.0}, {4.0, 4.0}, {-1.0, 0.0}});
  const auto score = bert_score(a, b);
  const double half = std::sqrt(0.5);
  EXPECT_NEAR(score.precision, (1 + half) / 2, 1e-6);
  EXPECT_NEAR(score.recall, (1 + half + 0) / 3, 1e-6);
  EXPECT_THROW(bert_score(a, torch::zeros({0, 2})), Error);
}

TEST(QuantileSketch, RanksAreWithinATenthOfAPercent) {
  for (const int kind : {0, 1, 2}) {
    Random random(3, static_cast<uint64_t>(kind));
    QuantileSketch sketch, exact(4096, true);
    std::vector<float> all;
    for (int batch = 0; batch < 40; ++batch) {
      std::vector<float> some;
      for (int i = 0; i < 2000; ++i) {
        const double z = random.normal();
        some.push_back(static_cast<float>(kind == 0   ? z
                                          : kind == 1 ? std::max(0.0, z - 1)
                                                      : std::exp(z) - 0.05 * batch));
      }
      sketch.add(some), exact.add(some);
      all.insert(all.end(), some.begin(), some.end());
    }
    for (const double q : {0.9, 0.99, 0.999}) {
      const double value = sketch.quantile(q);
      double below = 0;
      for (const float v : all) below += v <= value;
      EXPECT_NEAR(below / static_cast<double>(all.size()), q, 1e-3) << kind;
    }
    EXPECT_NEAR(exact.quantile(0.99), sketch.quantile(0.99), 0.02);
  }
}

TEST(QuantileSketch, ExactLiesBetweenTheNearestValues) {
  QuantileSketch exact(2, true);
  const std::vector<float> values = {4, 1, 3, 2};
  exact.add(values);
  EXPECT_EQ(exact.quantile(0), 1);
  EXPECT_EQ(exact.quantile(0.5), 2.5);
  EXPECT_EQ(exact.quantile(1), 4);
}

TEST(QuantileSketch, AValueThatManyShareKeepsItsRank) {
  QuantileSketch sketch;
  std::vector<float> values(1000, 0.0f);
  for (int i = 0; i < 5; ++i) values[static_cast<size_t>(i)] = static_cast<float>(i + 1) * 1e-7f;
  values[9] = 100;
  sketch.add(values);
  EXPECT_EQ(sketch.quantile(0.99), 0);
  EXPECT_GT(sketch.quantile(0.997), 0);
}

TEST(QuantileSketch, ConstantsAndWideRangesHold) {
  QuantileSketch sketch(16);
  const std::vector<float> zeros(100, 0.0f), wide = {-3e38f, 3e38f, 1e-38f};
  sketch.add(zeros);
  EXPECT_EQ(sketch.quantile(0.99), 0);
  sketch.add(wide);
  EXPECT_EQ(sketch.count(), 103);
  const std::vector<float> bad = {NAN};
  EXPECT_THROW(sketch.add(bad), Error);
  EXPECT_THROW(QuantileSketch(3), Error);
  EXPECT_THROW(QuantileSketch().quantile(0.5), Error);
}

}  // namespace
}  // namespace cajal::math
