#include "cajal/math/translation.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>

#include "cajal/core/error.h"

namespace cajal::math {
namespace {

struct Matches {
  double hits = 0, output = 0, reference = 0;
};

// n-grams of one sentence that occur in both, and how many there are on each side.
template <class Sequence>
void count(const Sequence& output, const Sequence& reference, size_t n, Matches& sum) {
  std::map<Sequence, int64_t> grams;
  const auto each = [n](const Sequence& s, auto&& visit) {
    for (size_t i = 0; i + n <= s.size(); ++i)
      visit(Sequence(s.begin() + static_cast<std::ptrdiff_t>(i),
                     s.begin() + static_cast<std::ptrdiff_t>(i + n)));
  };
  each(reference, [&](const Sequence& gram) { ++grams[gram], ++sum.reference; });
  each(output, [&](const Sequence& gram) {
    ++sum.output;
    const auto it = grams.find(gram);
    if (it != grams.end() && it->second > 0) --it->second, ++sum.hits;
  });
}

template <class T>
void check(const std::vector<T>& outputs, const std::vector<T>& references) {
  require(!references.empty() && outputs.size() == references.size(),
          "translation: {} outputs for {} references", outputs.size(), references.size());
}

}  // namespace

double bleu(const std::vector<std::vector<int32_t>>& outputs,
            const std::vector<std::vector<int32_t>>& references) {
  check(outputs, references);
  double logs = 0, length = 0, wanted = 0;
  for (size_t i = 0; i < outputs.size(); ++i) {
    length += static_cast<double>(outputs[i].size());
    wanted += static_cast<double>(references[i].size());
  }
  for (size_t n = 1; n <= 4; ++n) {
    Matches sum;
    for (size_t i = 0; i < outputs.size(); ++i) count(outputs[i], references[i], n, sum);
    if (sum.hits == 0) return 0;
    logs += std::log(sum.hits / sum.output) / 4;
  }
  const double penalty = length >= wanted ? 0 : 1 - wanted / length;
  return 100 * std::exp(logs + penalty);
}

double chrf(const std::vector<std::string>& outputs, const std::vector<std::string>& references) {
  check(outputs, references);
  const auto packed = [](std::string text) {
    std::erase(text, ' ');
    return text;
  };
  double sum = 0;
  int orders = 0;
  for (size_t n = 1; n <= 6; ++n) {
    Matches all;
    for (size_t i = 0; i < outputs.size(); ++i)
      count(packed(outputs[i]), packed(references[i]), n, all);
    if (all.reference == 0) continue;
    ++orders;
    if (all.hits == 0) continue;
    const double precision = all.hits / all.output, recall = all.hits / all.reference;
    sum += 5 * precision * recall / (4 * precision + recall);
  }
  return orders == 0 ? 0 : 100 * sum / orders;
}

}  // namespace cajal::math
