#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace cajal::data {

/// Ids below the words of both languages.
inline constexpr int32_t kPad = 0, kBegin = 1, kEnd = 2;

/// What a word of a translation asks of the translator.
enum class Asks : uint8_t {
  lookup,     // the word map
  agreement,  // article or adjective by class and number of its noun
  ambiguity   // a noun whose translation depends on the verb
};

struct SentencePair {
  std::vector<int32_t> source, target;  // without begin and end
  std::vector<Asks> asks;               // [target]
};

struct ToyTranslation {
  std::vector<std::string> words;  // of both languages, by id
  std::vector<SentencePair> train, valid, test;
};

struct ToyTranslateOptions {
  int64_t train = 40'000, valid = 1000, test = 2000;
  uint64_t seed = 0;
};

/// A generated language pair, "toy-translate": clauses NP V NP [PP], with subordinate clauses and
/// conjunctions, words drawn by Zipf's law. The target language maps words (15 % to two), puts the
/// verb of subordinate clauses last, lets articles and adjectives agree with a hidden class and the
/// number of the noun, spells units before tens, and has 5 % of nouns that the verb decides.
/// Sentences have 5 to 40 words; those of valid and test do not occur in train.
/// Throws Error for counts that are not positive. Source: dossier one-wide-ffn (generator).
ToyTranslation toy_translate(const ToyTranslateOptions& options);

}  // namespace cajal::data
