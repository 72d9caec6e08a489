#include "cajal/text/bpe_trainer.h"

#include <gtest/gtest.h>

#include <map>

#include "cajal/core/error.h"
#include "cajal/core/random.h"
#include "cajal/text/tokenizer.h"

namespace {

namespace fs = std::filesystem;
using namespace cajal::text;

// Words of few letters, so that many pairs are equally frequent.
std::string babble(uint64_t seed, int words) {
  cajal::Random random(seed);
  std::string text;
  for (int i = 0; i < words; ++i) {
    for (uint64_t n = 1 + random.below(7); n > 0; --n)
      text += static_cast<char>('a' + random.below(4));
    text += ' ';
  }
  return text;
}

// The definition: count every pair anew before each merge; of equals take the lowest ids.
std::vector<Merge> naive_merges(const std::string& text, int64_t count) {
  std::map<std::vector<std::string>, int> words;
  Pattern::regex(std::string(kGpt2Pattern), "").segments(text, [&](std::string_view word, bool) {
    std::vector<std::string> row;
    for (const char c : word) row.push_back(c == ' ' ? "Ġ" : std::string(1, c));
    ++words[row];
  });
  std::map<std::string, int> ids = {{"Ġ", 1000}};
  for (char c = 'a'; c <= 'z'; ++c) ids[std::string(1, c)] = c;
  std::vector<Merge> merges;
  while (static_cast<int64_t>(merges.size()) < count) {
    std::map<std::pair<int, int>, std::pair<int, Merge>> pairs;
    for (const auto& [row, times] : words)
      for (size_t i = 0; i + 1 < row.size(); ++i) {
        auto& [total, merge] = pairs[{ids[row[i]], ids[row[i + 1]]}];
        total += times;
        merge = {row[i], row[i + 1]};
      }
    std::pair<int, Merge> best;
    for (const auto& [key, pair] : pairs)
      if (pair.first > best.first) best = pair;
    const auto [left, right] = best.second;
    merges.push_back(best.second);
    ids.emplace(left + right, 2000 + static_cast<int>(merges.size()));
    std::map<std::vector<std::string>, int> joined;
    for (const auto& [row, times] : words) {
      std::vector<std::string> out;
      for (size_t i = 0; i < row.size(); ++i) {
        const bool pair = i + 1 < row.size() && row[i] == left && row[i + 1] == right;
        out.push_back(pair ? left + right : row[i]);
        i += pair;
      }
      joined[out] += times;
    }
    words = std::move(joined);
  }
  return merges;
}

TEST(BpeTrainer, LearnsTheMergesOfItsDefinition) {
  const auto text = babble(3, 400);
  BpeTrainer trainer({.vocabulary = 257 + 60});
  trainer.add(text);
  EXPECT_EQ(trainer.train().merges, naive_merges(text, 60));
}

TEST(BpeTrainer, DoesNotLearnFromSpecialTokens) {
  BpeTrainer with({.vocabulary = 300}), without({.vocabulary = 300});
  with.add("ab ab<|endoftext|>cd cd");
  without.add("ab ab"), without.add("cd cd");
  EXPECT_EQ(with.train().merges, without.train().merges);
}

TEST(BpeTrainer, StopsWhenNoPairOccursTwice) {
  BpeTrainer trainer({.vocabulary = 8192});
  trainer.add("abab");
  EXPECT_EQ(trainer.train().tokens.size(), 258u);
}

TEST(BpeTrainer, RefusesAVocabularyWithoutRoomForTheBytes) {
  EXPECT_THROW(BpeTrainer({.vocabulary = 256}), cajal::Error);
  EXPECT_THROW(BpeTrainer({.special = {"x", "x"}}), cajal::Error);
  EXPECT_THROW(BpeTrainer({}).train(), cajal::Error);
}

TEST(BpeTrainer, WritesATokenizerThatReadsEveryByteBack) {
  const fs::path folder = fs::path(testing::TempDir()) / "trained_tokenizer";
  fs::remove_all(folder);
  BpeTrainer trainer({.vocabulary = 300});
  trainer.add(babble(1, 300));
  write_tokenizer(folder, trainer.train(), trainer.options());
  const auto tokenizer = Tokenizer::open(folder);
  EXPECT_EQ(tokenizer.size(), 300);
  EXPECT_EQ(tokenizer.specials().eos, 0);
  const std::string text = std::string("\0\x01 abba \xC3\xA9\xF0\x9F\x99\x82\n\n  \t", 19) + "ab's";
  EXPECT_EQ(tokenizer.decode(tokenizer.encode(text)), text);
  EXPECT_EQ(tokenizer.encode("ab<|endoftext|>"),
            (std::vector<int32_t>{tokenizer.token_id("ab"), 0}));
  EXPECT_THROW(write_tokenizer(folder, trainer.train(), trainer.options()), cajal::Error);
  fs::remove_all(folder);
}

TEST(BpeTrainer, WritesAnotherPatternAsASplit) {
  BpeTrainerOptions options{.vocabulary = 270, .pattern = "[a-z]|[^a-z]+"};
  BpeTrainer trainer(options);
  trainer.add("aaaa bbbb  aaaa  ");
  const auto trained = trainer.train();
  const auto tokenizer = Tokenizer::parse(to_tokenizer_json(trained, options), "trained");
  EXPECT_EQ(tokenizer.encode("aa  a").size(), 4u);  // letters stay single, two spaces are one token
}

}  // namespace
