#include "cajal/data/assoc_recall.h"

#include <algorithm>
#include <numeric>

#include "cajal/core/error.h"
#include "cajal/core/random.h"

namespace cajal::data {

AssocRecall assoc_recall(const AssocRecallOptions& o, uint64_t seed) {
  require(o.pairs > 0 && o.queries > 0 && o.queries <= o.pairs && o.pairs <= o.keys &&
              o.values > 0 && o.distractors > 0,
          "assoc-recall: {} queries of {} pairs of {} keys, expected each at least 1 and no more "
          "than the next",
          o.queries, o.pairs, o.keys);
  const int64_t rest = o.tokens - 2 * (o.pairs + o.queries);
  require(rest >= 0, "assoc-recall: {} tokens hold no {} pairs and {} queries", o.tokens, o.pairs,
          o.queries);
  Random random(seed);
  const auto draw = [&](int64_t count) {
    return static_cast<int64_t>(random.below(static_cast<uint64_t>(count)));
  };
  std::vector<int32_t> keys(static_cast<size_t>(o.keys)), value(keys.size());
  std::iota(keys.begin(), keys.end(), 0);
  const auto shuffle_first = [&](int64_t count, std::vector<int32_t>& of) {
    for (int64_t i = 0; i < count; ++i)
      std::swap(of[static_cast<size_t>(i)], of[static_cast<size_t>(i + draw(std::ssize(of) - i))]);
  };
  shuffle_first(o.pairs, keys);
  // Distractors before each pair: the gaps between sorted random places.
  std::vector<int64_t> gaps;
  for (int64_t i = 0; i < o.pairs; ++i) gaps.push_back(draw(rest + 1));
  std::sort(gaps.begin(), gaps.end());
  AssocRecall out;
  const auto say = [&](int64_t id, int32_t answer) {
    out.ids.push_back(static_cast<int32_t>(id));
    out.answers.push_back(answer);
  };
  const auto distract = [&](int64_t count) {
    for (int64_t i = 0; i < count; ++i) say(o.keys + o.values + draw(o.distractors), -1);
  };
  int64_t before = 0;
  for (int64_t i = 0; i < o.pairs; ++i) {
    const auto key = keys[static_cast<size_t>(i)];
    const auto of = static_cast<int32_t>(o.keys + draw(o.values));
    value[static_cast<size_t>(key)] = of;
    distract(gaps[static_cast<size_t>(i)] - before);
    before = gaps[static_cast<size_t>(i)];
    say(key, -1), say(of, -1);
  }
  distract(rest - before);
  keys.resize(static_cast<size_t>(o.pairs));
  shuffle_first(o.queries, keys);
  for (int64_t i = 0; i < o.queries; ++i) {
    const auto key = keys[static_cast<size_t>(i)];
    say(key, value[static_cast<size_t>(key)]), say(value[static_cast<size_t>(key)], -1);
  }
  return out;
}

}  // namespace cajal::data
