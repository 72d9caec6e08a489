#include "cajal/models/caption/captioner.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>

namespace cajal::caption {
namespace {

struct Toy {
  ShowAttendTell describer{ShowAttendTellOptions{
      .vocabulary = 6, .features = 5, .embedding = 4, .hidden = 8, .dropout = 0}};
  LstmLanguageModel language{
      LstmLanguageModelOptions{.vocabulary = 6, .embedding = 4, .hidden = 8, .dropout = 0}};
  torch::Tensor features;

  explicit Toy(int64_t seed) {
    torch::manual_seed(seed);
    const torch::NoGradGuard no_grad;
    for (auto* module : {static_cast<torch::nn::Module*>(&*describer),
                         static_cast<torch::nn::Module*>(&*language)})
      for (auto& p : module->parameters()) p.copy_(torch::randn_like(p) * 0.8);
    describer->eval(), language->eval();
    features = torch::randn({1, 3, 5});
  }
};

/// Every phrase of up to `length` words, the stop word counted, that can be said.
std::vector<Description> all_phrases(int64_t vocabulary, int64_t length) {
  std::vector<Description> out;
  const std::function<void(Words)> extend = [&](Words words) {
    if (std::ssize(words) == length) {
      out.push_back({words, 0, false});
      return;
    }
    out.push_back({words, 0, true});
    for (int64_t w = 0; w < vocabulary; ++w) {
      if (w == kStop) continue;
      auto longer = words;
      longer.push_back(w);
      extend(longer);
    }
  };
  extend({});
  return out;
}

double log_p(Toy& toy, const Description& d, bool language) {
  const torch::NoGradGuard no_grad;
  auto words = d.words;
  words.insert(words.begin(), kStart);
  const auto ids = torch::tensor(words, torch::kLong).unsqueeze(0);
  const auto odds = language ? toy.language->forward(ids)
                             : std::get<0>(toy.describer->forward(toy.features, ids));
  double sum = 0;
  for (size_t t = 0; t < words.size(); ++t) {
    if (t + 1 == words.size() && !d.finished) break;
    const int64_t next = t + 1 < words.size() ? words[t + 1] : kStop;
    sum += odds[0][static_cast<int64_t>(t)][next].item<double>();
  }
  return sum;
}

// Vocabulary 6, length 3: 6 + 36 + 216 beams hold every phrase.
TEST(BeamSearch, AsWideAsAllPhrasesFindsTheLikeliest) {
  for (const int64_t seed : {1, 2, 3, 4}) {
    Toy toy(seed);
    const auto found = beam_search(toy.describer, toy.features, 216, 3)[0];
    auto all = all_phrases(6, 3);
    for (auto& d : all) d.score = log_p(toy, d, false);
    std::sort(all.begin(), all.end(), [](auto& a, auto& b) { return a.score > b.score; });
    EXPECT_EQ(found.size(), all.size());
    for (size_t k = 0; k < 10; ++k) {
      EXPECT_EQ(found[k].words, all[k].words);
      EXPECT_NEAR(found[k].score, all[k].score, 1e-5);
    }
  }
}

TEST(Describe, RerankFindsTheMostMutualInformation) {
  for (const double lambda : {0.0, 0.2, 1.0}) {
    Toy toy(7);
    auto all = all_phrases(6, 3);
    for (auto& d : all) d.score = log_p(toy, d, false) - lambda * log_p(toy, d, true);
    const auto& best = *std::max_element(all.begin(), all.end(),
                                         [](auto& a, auto& b) { return a.score < b.score; });
    for (const auto strategy : {Strategy::rerank, Strategy::mi_beam}) {
      const auto said =
          describe(toy.describer, toy.language, toy.features,
                   {.strategy = strategy, .lambda = lambda, .beam = 216, .length = 3})[0];
      EXPECT_EQ(said.words, best.words) << lambda;
      EXPECT_NEAR(said.score, best.score, 1e-5);
    }
  }
}

TEST(Describe, GreedyTakesTheLikeliestWordAtEachStep) {
  Toy toy(9);
  for (const auto strategy : {Strategy::greedy, Strategy::mi_greedy}) {
    const auto said = describe(toy.describer, toy.language, toy.features,
                               {.strategy = strategy, .lambda = 0.5, .length = 4})[0];
    const torch::NoGradGuard no_grad;
    Words words = {kStart};
    while (std::ssize(words) <= 4) {
      const auto ids = torch::tensor(words, torch::kLong).unsqueeze(0);
      auto odds = std::get<0>(toy.describer->forward(toy.features, ids))[0][-1];
      if (strategy == Strategy::mi_greedy) odds = odds - 0.5 * toy.language->forward(ids)[0][-1];
      const auto next = odds.argmax().item<int64_t>();
      if (next == kStop) break;
      words.push_back(next);
    }
    words.erase(words.begin());
    EXPECT_EQ(said.words, words);
  }
}

TEST(Describe, ManyItemsAtOnceAreSaidAsOneByOne) {
  Toy toy(11);
  const auto many = torch::randn({70, 3, 5});
  const DescribeOptions options{.beam = 7, .length = 5};
  const auto together = describe(toy.describer, toy.language, many, options);
  ASSERT_EQ(together.size(), 70u);
  for (const int64_t i : {0, 31, 32, 69})
    EXPECT_EQ(describe(toy.describer, toy.language, many.slice(0, i, i + 1), options)[0].words,
              together[static_cast<size_t>(i)].words);
}

TEST(Describe, RefusesModelsOfOtherVocabularies) {
  Toy toy(1);
  LstmLanguageModel other(LstmLanguageModelOptions{.vocabulary = 7, .embedding = 2, .hidden = 2});
  EXPECT_THROW(describe(toy.describer, other, toy.features, {}), Error);
  EXPECT_THROW(describe(toy.describer, toy.language, torch::randn({1, 3, 4}), {}), Error);
  EXPECT_THROW(describe(toy.describer, toy.language, toy.features, {.beam = 0}), Error);
}

TEST(LogLikelihood, IsTheSumOverWordsAndStop) {
  Toy toy(5);
  const std::vector<Words> phrases = {{3, 4}, {5}};
  const auto both = torch::cat({toy.features, toy.features});
  const auto d = log_likelihood(toy.describer, both, phrases);
  const auto l = log_likelihood(toy.language, phrases);
  for (size_t i = 0; i < 2; ++i) {
    const Description one{phrases[i], 0, true};
    EXPECT_NEAR(d[static_cast<int64_t>(i)].item<double>(), log_p(toy, one, false), 1e-5);
    EXPECT_NEAR(l[static_cast<int64_t>(i)].item<double>(), log_p(toy, one, true), 1e-5);
  }
}

TEST(Vocabulary, KeepsLemmasAndMapsOthersToUnknown) {
  const Vocabulary words({"Red circles", "boxes, crosses"});
  EXPECT_EQ(words.size(), 8);
  EXPECT_EQ(words.decode(words.encode("red Circle box CROSS")), "red circle box cross");
  EXPECT_EQ(words.encode("blue"), Words{kUnknown});
  EXPECT_THROW(words.decode({8}), Error);
}

TEST(Lemma, DropsThePlural) {
  for (const auto& [word, plain] :
       std::initializer_list<std::pair<const char*, const char*>>{{"circles", "circle"},
                                                                  {"boxes", "box"},
                                                                  {"crosses", "cross"},
                                                                  {"glass", "glass"},
                                                                  {"bodies", "body"},
                                                                  {"pluses", "pluse"},
                                                                  {"Discs", "disc"},
                                                                  {"is", "is"}})
    EXPECT_EQ(lemma(word), plain);
}

}  // namespace
}  // namespace cajal::caption
