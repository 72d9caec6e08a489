#include "cajal/atlas/heuristics.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <numeric>

#include "cajal/atlas/census.h"
#include "cajal/core/error.h"
#include "cajal/core/random.h"

namespace cajal::atlas {
namespace {

constexpr int64_t kMods[] = {2, 3, 4, 5, 6, 7, 8, 9, 10};

std::vector<int64_t> operand_range_sizes(Operator op) {
  if (op == Operator::multiply) return {3, 5, 10};
  return {10, 30, 50, 100};
}

std::vector<int64_t> result_range_sizes(Operator op) {
  if (op == Operator::multiply) return {10, 30, 50, 100};
  if (op == Operator::divide) return {2, 10, 100};
  return {10, 30, 50};
}

// The most frequent wildcard patterns of three-digit numbers: {pattern, count}, at most five, each
// found at least `least` times; of equal counts the one with more digits, then the earlier one.
std::vector<std::pair<std::string, int64_t>> frequent_patterns(std::span<const int32_t> numbers,
                                                               int64_t least) {
  struct Seen {
    int64_t count = 0, first = 0;
  };
  std::vector<Seen> seen(11 * 11 * 11);  // digit 10 is '.'
  int64_t time = 0;
  for (const int32_t number : numbers) {
    const int digits[] = {number / 100 % 10, number / 10 % 10, number % 10};
    for (int kept = 1; kept < 8; ++kept, ++time) {
      int code = 0;
      for (int d = 0; d < 3; ++d) code = code * 11 + (kept & (1 << d) ? digits[d] : 10);
      auto& s = seen[static_cast<size_t>(code)];
      if (s.count++ == 0) s.first = time;
    }
  }
  struct Row {
    std::string pattern;
    int64_t count, digits, first;
  };
  std::vector<Row> rows;
  for (size_t code = 0; code < seen.size(); ++code) {
    if (seen[code].count == 0 || seen[code].count < least) continue;
    const size_t digits[] = {code / 121, code / 11 % 11, code % 11};
    Row row{"", seen[code].count, 0, seen[code].first};
    for (const size_t d : digits) {
      row.pattern += d == 10 ? '.' : static_cast<char>('0' + d);
      row.digits += d != 10;
    }
    rows.push_back(row);
  }
  std::sort(rows.begin(), rows.end(), [](const Row& a, const Row& b) {
    return std::tuple(-a.count, -a.digits, a.first) < std::tuple(-b.count, -b.digits, b.first);
  });
  std::vector<std::pair<std::string, int64_t>> out;
  for (size_t i = 0; i < std::min<size_t>(5, rows.size()); ++i)
    out.emplace_back(rows[i].pattern, rows[i].count);
  return out;
}

}  // namespace

HeuristicScorer::HeuristicScorer(PairGrid grid, double threshold)
    : grid_(std::move(grid)), threshold_(threshold), operand_sizes_(operand_range_sizes(grid_.op)) {
  require(grid_.size() > 0, "heuristics: the grid has no legal pair");
  require(threshold > 0 && threshold <= 1, "heuristics: threshold {} is not in (0, 1]", threshold);
  mixed_.resize(static_cast<size_t>(grid_.size()));
  std::iota(mixed_.begin(), mixed_.end(), 0);
  Random random(mixed_.size());
  shuffle(mixed_, random);
  using F = HeuristicFamily;
  for (const auto of :
       {HeuristicOf::op1, HeuristicOf::op2, HeuristicOf::both_operands, HeuristicOf::result}) {
    const bool result = of == HeuristicOf::result;
    if (!(result && grid_.op == Operator::divide))
      for (const int64_t n : kMods)
        for (int64_t m = 0; m < n; ++m) add_fixed({F::mod, of, m, n, {}, {}});
    if (result) continue;
    for (const int64_t size : operand_sizes_)
      for (int64_t a = 0; a < grid_.operands; a += size)
        add_fixed({F::range, of, a, a + size, {}, {}});
  }
  const int64_t limit = grid_.op == Operator::add        ? 2 * grid_.operands
                        : grid_.op == Operator::multiply ? grid_.max_result + 1
                                                         : grid_.operands;
  for (const int64_t size : result_range_sizes(grid_.op))
    for (int64_t a = 0; a < limit; a += std::max<int64_t>(size / 3, 10))
      if (!(grid_.op == Operator::divide && a == 0))  // says only that the result is 0
        add_fixed({F::range, HeuristicOf::result, a, a + size, {}, {}});
  add_fixed({F::same_operand, HeuristicOf::both_operands, 0, 0, {}, {}});
  by_k_.resize(fixed_.size());
  std::iota(by_k_.begin(), by_k_.end(), 0);
  std::sort(by_k_.begin(), by_k_.end(), [&](int64_t a, int64_t b) {
    return judged_by_[static_cast<size_t>(a)] < judged_by_[static_cast<size_t>(b)];
  });
}

void HeuristicScorer::add_fixed(Heuristic heuristic) {
  const auto pairs = pairs_of(heuristic);
  const auto k = judged_by(heuristic);
  const double rate = static_cast<double>(pairs.size()) / static_cast<double>(grid_.size());
  if (pairs.empty() || k == 0 || rate >= threshold_) return;
  // A rule of another family is another rule though it may hold at the same pairs.
  const auto key =
      hash_bytes(std::as_bytes(std::span(pairs)), static_cast<uint64_t>(heuristic.family));
  if (std::find(sets_.begin(), sets_.end(), key) != sets_.end()) return;
  sets_.push_back(key);
  fixed_.push_back(std::move(heuristic));
  judged_by_.push_back(k);
}

std::vector<int64_t> HeuristicScorer::pairs_of(const Heuristic& heuristic) const {
  std::vector<int64_t> out;
  for (int64_t p = 0; p < grid_.size(); ++p) {
    const auto i = static_cast<size_t>(p);
    if (heuristic.holds(grid_.x[i], grid_.y[i], grid_.result[i])) out.push_back(p);
  }
  return out;
}

int64_t HeuristicScorer::judged_by(const Heuristic& h) const {
  const int64_t m = grid_.operands;
  const bool skewed = grid_.op == Operator::multiply || grid_.op == Operator::divide;
  const auto scaled = [&](int64_t pairs) {
    return static_cast<int64_t>(static_cast<double>(pairs) * grid_.share());
  };
  switch (h.family) {
    case HeuristicFamily::mod: {
      if (h.of == HeuristicOf::op1 || h.of == HeuristicOf::op2) return scaled(m / h.b * m);
      const int64_t k = scaled((m / h.b) * (m / h.b));
      return h.of == HeuristicOf::result && skewed ? std::min(k, m) : k;
    }
    case HeuristicFamily::range: {
      const int64_t k = std::ssize(pairs_of(h));
      return h.of == HeuristicOf::result && skewed ? std::min(k, m) : k;
    }
    case HeuristicFamily::same_operand: {
      const auto root = static_cast<int64_t>(std::sqrt(static_cast<double>(grid_.max_result)));
      return std::min(grid_.size(), grid_.op == Operator::multiply ? root : m);
    }
    case HeuristicFamily::multi_value:
      return std::min<int64_t>(1000, grid_.size());
    default:
      return scaled(m);
  }
}

std::vector<int32_t> by_activation(std::span<const float> activations, std::vector<int32_t> order) {
  // Stable radix sort on the bits, made to fall: three passes of 11 bits.
  const size_t n = activations.size();
  std::vector<uint32_t> keys(n);
  std::vector<int32_t> other(n);
  std::array<std::array<uint32_t, 2049>, 3> begin{};
  for (size_t i = 0; i < n; ++i) {
    uint32_t bits;
    const float a = activations[i] + 0.0f;  // -0 is 0
    std::memcpy(&bits, &a, 4);
    bits = bits >> 31 ? bits : ~bits & 0x7fffffffu;
    keys[i] = bits;
    for (int pass = 0; pass < 3; ++pass) ++begin[pass][(bits >> (11 * pass) & 2047) + 1];
  }
  for (int pass = 0; pass < 3; ++pass) {
    auto& b = begin[pass];
    for (size_t i = 1; i < b.size(); ++i) b[i] += b[i - 1];
    for (const int32_t p : order)
      other[b[keys[static_cast<size_t>(p)] >> (11 * pass) & 2047]++] = p;
    order.swap(other);
  }
  return order;
}

double naive_score(const PairGrid& grid, const Heuristic& heuristic, int64_t k,
                   std::span<const int32_t> order) {
  int64_t hits = 0;
  for (int64_t i = 0; i < k; ++i) {
    const auto p = static_cast<size_t>(order[static_cast<size_t>(i)]);
    hits += heuristic.holds(grid.x[p], grid.y[p], grid.result[p]);
  }
  return k ? static_cast<double>(hits) / static_cast<double>(k) : 0;
}

// How often each value was among the strongest pairs so far: one sweep serves every rule.
struct HeuristicScorer::Counts {
  std::vector<int64_t> x, y, result;
  std::array<std::array<int64_t, 10>, 11> both_mod{};  // [n][m]
  std::vector<std::vector<int64_t>> both_range;        // [size][x / size]
  int64_t same = 0;
};

std::vector<double> HeuristicScorer::fixed_scores(std::span<const int32_t> order) const {
  Counts c;
  c.x.resize(static_cast<size_t>(grid_.operands)), c.y = c.x;
  c.result.resize(static_cast<size_t>(grid_.max_result) + 1);
  c.both_range.assign(operand_sizes_.size(), c.x);
  const auto sum = [](const std::vector<int64_t>& counts, int64_t begin, int64_t end,
                      int64_t step) {
    int64_t total = 0;
    for (int64_t v = begin; v < std::min<int64_t>(end, std::ssize(counts)); v += step)
      total += counts[static_cast<size_t>(v)];
    return total;
  };
  const auto hits = [&](const Heuristic& h) -> int64_t {
    if (h.family == HeuristicFamily::same_operand) return c.same;
    if (h.of == HeuristicOf::both_operands) {
      if (h.family == HeuristicFamily::mod)
        return c.both_mod[static_cast<size_t>(h.b)][static_cast<size_t>(h.a)];
      const auto size = std::find(operand_sizes_.begin(), operand_sizes_.end(), h.b - h.a);
      return c.both_range[static_cast<size_t>(size - operand_sizes_.begin())]
                         [static_cast<size_t>(h.a / (h.b - h.a))];
    }
    const auto& counts = h.of == HeuristicOf::op1 ? c.x : h.of == HeuristicOf::op2 ? c.y : c.result;
    return h.family == HeuristicFamily::mod ? sum(counts, h.a, INT64_MAX, h.b)
                                            : sum(counts, h.a, h.b, 1);
  };
  std::vector<double> out(fixed_.size());
  size_t seen = 0;
  for (const int64_t rule : by_k_) {
    const auto r = static_cast<size_t>(rule);
    for (; seen < static_cast<size_t>(judged_by_[r]); ++seen) {
      const auto p = static_cast<size_t>(order[seen]);
      const int32_t x = grid_.x[p], y = grid_.y[p];
      ++c.x[static_cast<size_t>(x)], ++c.y[static_cast<size_t>(y)];
      ++c.result[static_cast<size_t>(grid_.result[p])];
      c.same += x == y;
      const auto apart = static_cast<uint32_t>(std::abs(x - y));
      for (const int64_t n : kMods)
        if (apart % static_cast<uint32_t>(n) == 0)
          ++c.both_mod[static_cast<size_t>(n)][static_cast<size_t>(x % n)];
      for (size_t s = 0; s < operand_sizes_.size(); ++s)
        if (const int64_t slot = x / operand_sizes_[s]; slot == y / operand_sizes_[s])
          ++c.both_range[s][static_cast<size_t>(slot)];
    }
    out[r] = static_cast<double>(hits(fixed_[r])) / static_cast<double>(judged_by_[r]);
  }
  return out;
}

// Digit patterns, values, and small sets of results that the strongest pairs themselves show.
void HeuristicScorer::add_found(std::span<const int32_t> order,
                                std::vector<HeuristicMatch>& out) const {
  const auto insert = [&](Heuristic heuristic, double score) {
    for (auto& match : out)
      if (match.heuristic == heuristic) {
        match.score = std::max(match.score, score);
        return;
      }
    out.push_back({std::move(heuristic), score});
  };
  const int64_t k = judged_by({HeuristicFamily::pattern, HeuristicOf::op1, 0, 0, {}, {}});
  for (const auto of : {HeuristicOf::op1, HeuristicOf::op2, HeuristicOf::result}) {
    const auto& numbers = of == HeuristicOf::op1   ? grid_.x
                          : of == HeuristicOf::op2 ? grid_.y
                                                   : grid_.result;
    std::vector<int32_t> top;
    for (int64_t i = 0; i < k; ++i)
      top.push_back(numbers[static_cast<size_t>(order[static_cast<size_t>(i)])]);
    for (const auto& [pattern, count] : frequent_patterns(top, k / 10)) {
      const double score = static_cast<double>(count) / static_cast<double>(k);
      if (pattern.find('.') == std::string::npos) {
        insert({HeuristicFamily::value, of, std::stoll(pattern), 0, {}, {}}, score);
      } else if (!(pattern.back() == '.' && pattern.front() != '.') &&  // that is a range
                 !(of == HeuristicOf::result && grid_.op == Operator::divide)) {
        insert({HeuristicFamily::pattern, of, 0, 0, pattern, {}}, score);
      }
    }
  }
  if (grid_.op != Operator::divide) return;
  const auto many = judged_by({HeuristicFamily::multi_value, HeuristicOf::result, 0, 0, {}, {}});
  std::vector<int64_t> counts(static_cast<size_t>(grid_.max_result) + 1);
  for (int64_t i = 0; i < many; ++i)
    ++counts[static_cast<size_t>(grid_.result[static_cast<size_t>(order[static_cast<size_t>(i)])])];
  std::vector<int64_t> values(counts.size());
  std::iota(values.begin(), values.end(), 0);
  std::stable_sort(values.begin(), values.end(), [&](int64_t a, int64_t b) {
    return counts[static_cast<size_t>(a)] > counts[static_cast<size_t>(b)];
  });
  double held = 0;
  for (size_t n = 1; n <= std::min<size_t>(5, values.size()); ++n) {
    const double before = held;
    held +=
        static_cast<double>(counts[static_cast<size_t>(values[n - 1])]) / static_cast<double>(many);
    if (n < 2 || before >= 0.95 || held < 0.95) continue;
    std::vector<int64_t> set(values.begin(), values.begin() + static_cast<int64_t>(n));
    std::sort(set.begin(), set.end());
    bool small_numbers = true;  // 0, 1, ... says only that the result is about 0
    for (size_t i = 0; i < set.size(); ++i) small_numbers &= set[i] == static_cast<int64_t>(i);
    if (!small_numbers && set != std::vector<int64_t>{0, 2})
      insert({HeuristicFamily::multi_value, HeuristicOf::result, 0, 0, {}, set}, held);
  }
}

std::vector<HeuristicMatch> HeuristicScorer::score(std::span<const float> activations,
                                                   bool both_ends) const {
  require(std::ssize(activations) == grid_.size(),
          "heuristics: a map of {} activations, expected {}, one for each legal pair",
          activations.size(), grid_.size());
  auto order = by_activation(activations, mixed_);
  auto scores = fixed_scores(order);
  std::vector<HeuristicMatch> found;
  add_found(order, found);
  if (both_ends) {
    std::reverse(order.begin(), order.end());
    const auto low = fixed_scores(order);
    for (size_t i = 0; i < scores.size(); ++i) scores[i] = std::max(scores[i], low[i]);
    add_found(order, found);
  }
  std::vector<HeuristicMatch> out;
  out.reserve(fixed_.size() + found.size());
  for (size_t i = 0; i < fixed_.size(); ++i) out.push_back({fixed_[i], scores[i]});
  out.insert(out.end(), found.begin(), found.end());
  if (grid_.op != Operator::multiply) return out;
  // All of the strongest pairs have the result 0: nothing follows about its digits.
  const bool zero = std::any_of(found.begin(), found.end(), [](const HeuristicMatch& match) {
    return match.heuristic.family == HeuristicFamily::value &&
           match.heuristic.of == HeuristicOf::result && match.heuristic.a == 0 && match.score == 1;
  });
  for (auto& [h, score] : out) {
    const bool of_zero =
        (h.family == HeuristicFamily::mod && h.of == HeuristicOf::result && h.a == 0) ||
        (h.family == HeuristicFamily::pattern &&
         h.pattern.find_first_not_of("0.") == std::string::npos && h.pattern != ".0.");
    if (zero && of_zero) score = 0;
  }
  return out;
}

std::vector<HeuristicMatch> HeuristicScorer::kept(std::vector<HeuristicMatch> all) const {
  std::erase_if(all, [&](const HeuristicMatch& match) { return match.score < threshold_; });
  std::vector<std::pair<int64_t, size_t>> size(all.size());
  for (size_t i = 0; i < all.size(); ++i) size[i] = {std::ssize(pairs_of(all[i].heuristic)), i};
  std::stable_sort(size.begin(), size.end(), [&](const auto& a, const auto& b) {
    return std::pair(-all[a.second].score, a.first) < std::pair(-all[b.second].score, b.first);
  });
  std::vector<HeuristicMatch> out;
  for (const auto& [pairs, i] : size) out.push_back(std::move(all[i]));
  return out;
}

std::vector<HeuristicMatch> HeuristicScorer::matches(std::span<const float> activations,
                                                     bool both_ends) const {
  return kept(score(activations, both_ends));
}

std::vector<HeuristicMatch> HeuristicScorer::hybrid_matches(std::span<const float> activations,
                                                            std::span<const float> effects,
                                                            bool both_ends) const {
  auto all = score(activations, both_ends);
  std::erase_if(all, [](const auto& match) { return match.heuristic.of == HeuristicOf::result; });
  for (auto& match : score(effects, both_ends))
    if (match.heuristic.of == HeuristicOf::result) all.push_back(std::move(match));
  return kept(std::move(all));
}

}  // namespace cajal::atlas
