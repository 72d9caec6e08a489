#include "cajal/data/toy_translate.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "cajal/core/error.h"
#include "cajal/core/random.h"

namespace cajal::data {
namespace {

constexpr size_t kNouns = 400, kVerbs = 120, kAdjectives = 60, kPrepositions = 8, kWordClasses = 3;

/// Draws 0, 1, 2, ... with probability falling as 1 / (rank + 1).
class Zipf {
 public:
  explicit Zipf(size_t count) {
    double sum = 0;
    for (size_t rank = 1; rank <= count; ++rank)
      ends_.push_back(sum += 1 / static_cast<double>(rank));
  }
  size_t operator()(Random& random) const {
    const double at = random.uniform() * ends_.back();
    return static_cast<size_t>(std::upper_bound(ends_.begin(), ends_.end(), at) - ends_.begin());
  }

 private:
  std::vector<double> ends_;
};

class Language {
 public:
  explicit Language(uint64_t seed) : random_(seed, 7) {
    words = {"<pad>", "<s>", "</s>"};
    Random map(seed, 3);
    for (size_t i = 0; i < kNouns; ++i) {
      nouns_.push_back(add(fmt::format("noun{}", i)));
      noun_targets_.push_back(translation(fmt::format("Nomen{}", i), map));
      noun_other_.push_back(translation(fmt::format("Anderes{}", i), map));
      class_.push_back(map.below(kWordClasses));
      ambiguous_.push_back(map.uniform() < 0.05);
    }
    for (size_t i = 0; i < kVerbs; ++i) {
      verbs_.push_back(add(fmt::format("verb{}", i)));
      verb_targets_.push_back(translation(fmt::format("Verb{}", i), map));
      decides_.push_back(map.uniform() < 0.5);
    }
    for (size_t i = 0; i < kAdjectives; ++i) {
      adjectives_.push_back(add(fmt::format("adj{}", i)));
      adjective_targets_.push_back(inflected(fmt::format("Adj{}", i)));
    }
    for (size_t i = 0; i < kPrepositions; ++i) {
      prepositions_.push_back(add(fmt::format("prep{}", i)));
      preposition_targets_.push_back(add(fmt::format("Prep{}", i)));
    }
    for (const char* place : {"hundred", "ten", "unit"})
      for (int digit = 0; digit < 10; ++digit) {
        digits_.push_back(add(fmt::format("{}{}", place, digit)));
        digit_targets_.push_back(add(fmt::format("{}{}_", place, digit)));
      }
    the_ = add("the"), that_ = add("that"), and_ = add("and");
    article_ = inflected("der"), that_target_ = add("dass"), and_target_ = add("und");
  }

  SentencePair sentence() {
    SentencePair out;
    clause(out, false);
    if (random_.uniform() < 0.35) {
      say(out, that_, that_target_);
      clause(out, true);
    }
    if (random_.uniform() < 0.35) {
      say(out, and_, and_target_);
      clause(out, false);
    }
    return out;
  }

  std::vector<std::string> words;

 private:
  using Ids = std::vector<int32_t>;

  int32_t add(std::string word) {
    words.push_back(std::move(word));
    return static_cast<int32_t>(words.size() - 1);
  }
  Ids translation(const std::string& word, Random& map) {
    Ids out = {add(word)};
    if (map.uniform() < 0.15) out.push_back(add(word + "-zwei"));
    return out;
  }
  Ids inflected(const std::string& word) {
    Ids forms;
    for (size_t form = 0; form < 2 * kWordClasses; ++form)
      forms.push_back(add(fmt::format("{}_{}", word, form)));
    return forms;
  }

  static void put(SentencePair& out, const Ids& target, Asks asks) {
    out.target.insert(out.target.end(), target.begin(), target.end());
    out.asks.insert(out.asks.end(), target.size(), asks);
  }
  static void say(SentencePair& out, int32_t source, int32_t target) {
    out.source.push_back(source);
    put(out, {target}, Asks::lookup);
  }

  // "three hundred, two tens, five" is said units first on the other side.
  void number(SentencePair& out, size_t value) {
    const size_t hundreds = value / 100, tens = value / 10 % 10, units = value % 10;
    if (hundreds > 0) say(out, digits_[hundreds], digit_targets_[hundreds]);
    out.source.push_back(digits_[10 + tens]), out.source.push_back(digits_[20 + units]);
    put(out, {digit_targets_[20 + units], digit_targets_[10 + tens]}, Asks::lookup);
  }

  void noun_phrase(SentencePair& out, size_t verb) {
    const size_t word = noun_rank_(random_);
    const bool counted = random_.uniform() < 0.2;
    const size_t value = counted ? 2 + random_.below(998) : 1;
    const size_t form = 2 * class_[word] + counted;
    out.source.push_back(the_);
    put(out, {article_[form]}, Asks::agreement);
    if (counted) number(out, value);
    if (random_.uniform() < 0.5) {
      const size_t adjective = adjective_rank_(random_);
      out.source.push_back(adjectives_[adjective]);
      put(out, {adjective_targets_[adjective][form]}, Asks::agreement);
    }
    out.source.push_back(nouns_[word]);
    const bool other = ambiguous_[word] && decides_[verb];
    put(out, other ? noun_other_[word] : noun_targets_[word],
        ambiguous_[word] ? Asks::ambiguity : Asks::lookup);
  }

  void clause(SentencePair& out, bool subordinate) {
    const size_t verb = verb_rank_(random_);
    noun_phrase(out, verb);
    out.source.push_back(verbs_[verb]);
    if (!subordinate) put(out, verb_targets_[verb], Asks::lookup);
    noun_phrase(out, verb);
    if (random_.uniform() < 0.4) {
      const size_t preposition = random_.below(kPrepositions);
      say(out, prepositions_[preposition], preposition_targets_[preposition]);
      noun_phrase(out, verb);
    }
    if (subordinate) put(out, verb_targets_[verb], Asks::lookup);
  }

  Random random_;
  Zipf noun_rank_{kNouns}, verb_rank_{kVerbs}, adjective_rank_{kAdjectives};
  Ids nouns_, verbs_, adjectives_, prepositions_, preposition_targets_, digits_, digit_targets_;
  std::vector<Ids> noun_targets_, noun_other_, verb_targets_, adjective_targets_;
  std::vector<size_t> class_;
  std::vector<bool> ambiguous_, decides_;
  int32_t the_ = 0, that_ = 0, and_ = 0, that_target_ = 0, and_target_ = 0;
  Ids article_;
};

}  // namespace

ToyTranslation toy_translate(const ToyTranslateOptions& o) {
  require(o.train > 0 && o.valid > 0 && o.test > 0,
          "toy-translate: train, valid and test must be positive, got {}, {} and {}", o.train,
          o.valid, o.test);
  Language language(o.seed);
  ToyTranslation out;
  std::set<std::vector<int32_t>> seen;
  const auto fill = [&](std::vector<SentencePair>& to, int64_t count) {
    while (std::ssize(to) < count) {
      auto pair = language.sentence();
      const auto length = std::max(pair.source.size(), pair.target.size());
      if (length >= 5 && length <= 40 && seen.insert(pair.source).second)
        to.push_back(std::move(pair));
    }
  };
  fill(out.train, o.train), fill(out.valid, o.valid), fill(out.test, o.test);
  out.words = language.words;
  return out;
}

}  // namespace cajal::data
