#include "cajal/atlas/heuristics.h"

#include <gtest/gtest.h>

#include <numeric>

#include "cajal/core/error.h"
#include "cajal/core/random.h"

namespace cajal::atlas {
namespace {

std::vector<float> map_of(const PairGrid& grid, const Heuristic& heuristic, double noise,
                          uint64_t seed) {
  Random random(seed);
  std::vector<float> out;
  for (int64_t p = 0; p < grid.size(); ++p) {
    const auto i = static_cast<size_t>(p);
    out.push_back(static_cast<float>(heuristic.holds(grid.x[i], grid.y[i], grid.result[i]) +
                                     noise * random.normal()));
  }
  return out;
}

TEST(PairGrid, HoldsLegalPairsOnly) {
  EXPECT_EQ(pair_grid(Operator::add, 0, 100, 198).size(), 10000);
  EXPECT_EQ(pair_grid(Operator::add, 0, 100, 99).size(), 5050);
  EXPECT_EQ(pair_grid(Operator::subtract, 0, 10, 99).size(), 55);
  const auto division = pair_grid(Operator::divide, 1, 10, 99);
  EXPECT_EQ(division.size(), 81);
  EXPECT_EQ(division.result[static_cast<size_t>(6 * 9 + 1)], 3);  // 7 / 2
  EXPECT_THROW(pair_grid(Operator::add, 5, 5, 9), Error);
}

TEST(ByActivation, FallsAndLeavesTiesAsTheyStood) {
  const std::vector<float> a{0, -1, 3, -0.0f, 3, -2.5f, 1e-30f, 1e30f};
  EXPECT_EQ(by_activation(a, {3, 0, 1, 4, 2, 5, 6, 7}),
            (std::vector<int32_t>{7, 4, 2, 6, 3, 0, 1, 5}));
}

TEST(Heuristics, ANeuronThatIsSilentNearlyEverywhereFollowsNoRule) {
  const HeuristicScorer scorer(pair_grid(Operator::add, 0, 100, 198));
  Random random(5);
  std::vector<float> map(10'000);
  for (int k = 0; k < 50; ++k) map[random.below(map.size())] = 1;
  EXPECT_TRUE(scorer.matches(map, false).empty());
}

TEST(Heuristics, FixedScoresEqualTheNaiveLoop) {
  for (const auto op : {Operator::add, Operator::subtract, Operator::multiply, Operator::divide}) {
    const auto grid = pair_grid(op, op == Operator::divide, 40, 150);
    const HeuristicScorer scorer(grid);
    Random random(3);
    std::vector<float> map(static_cast<size_t>(grid.size()));
    for (auto& a : map) a = static_cast<float>(random.normal());
    auto order = by_activation(map, scorer.mixed());
    const auto scores = scorer.score(map, false);
    std::reverse(order.begin(), order.end());
    const auto forward = by_activation(map, scorer.mixed());
    const auto both = scorer.score(map, true);
    for (size_t i = 0; i < scorer.fixed().size(); ++i) {
      const auto& h = scorer.fixed()[i];
      const auto k = scorer.judged_by(h);
      const double down = naive_score(grid, h, k, forward), up = naive_score(grid, h, k, order);
      EXPECT_DOUBLE_EQ(scores[i].score, down) << h.name();
      EXPECT_DOUBLE_EQ(both[i].score, std::max(down, up)) << h.name();
    }
  }
}

TEST(Heuristics, KFollowsTheCountingFormulas) {
  const HeuristicScorer sub(pair_grid(Operator::subtract, 0, 100, 99));
  const double c = 5050.0 / 10000;
  using F = HeuristicFamily;
  EXPECT_EQ(sub.judged_by({F::mod, HeuristicOf::op1, 1, 3, {}, {}}), int64_t(33 * 100 * c));
  EXPECT_EQ(sub.judged_by({F::mod, HeuristicOf::both_operands, 1, 3, {}, {}}),
            int64_t(33 * 33 * c));
  EXPECT_EQ(sub.judged_by({F::range, HeuristicOf::op1, 0, 10, {}, {}}), 55);
  EXPECT_EQ(sub.judged_by({F::same_operand, HeuristicOf::both_operands, 0, 0, {}, {}}), 100);
  EXPECT_EQ(sub.judged_by({F::pattern, HeuristicOf::op1, 0, 0, "..1", {}}), int64_t(100 * c));
  const HeuristicScorer times(pair_grid(Operator::multiply, 0, 100, 500));
  EXPECT_EQ(times.judged_by({F::same_operand, HeuristicOf::both_operands, 0, 0, {}, {}}), 22);
  EXPECT_EQ(times.judged_by({F::mod, HeuristicOf::result, 0, 2, {}, {}}), 100);
}

TEST(Heuristics, PlantedRulesAreFoundUnderNoise) {
  const auto grid = pair_grid(Operator::add, 0, 100, 198);
  const HeuristicScorer scorer(grid);
  using F = HeuristicFamily;
  std::vector<Heuristic> planted = scorer.fixed();
  planted.push_back({F::value, HeuristicOf::op2, 37, 0, {}, {}});
  planted.push_back({F::value, HeuristicOf::result, 99, 0, {}, {}});
  planted.push_back({F::pattern, HeuristicOf::op1, 0, 0, ".7.", {}});
  planted.push_back({F::pattern, HeuristicOf::result, 0, 0, "1.3", {}});
  for (const char* pattern : {"..3", ".4.", ".47"})
    for (const auto of : {HeuristicOf::op1, HeuristicOf::op2, HeuristicOf::result})
      planted.push_back({F::pattern, of, 0, 0, pattern, {}});
  int right = 0;
  for (size_t i = 0; i < planted.size(); ++i) {
    const auto found = scorer.matches(map_of(grid, planted[i], 0.1, i), false);
    right += !found.empty() && scorer.pairs_of(found[0].heuristic) == scorer.pairs_of(planted[i]);
  }
  EXPECT_GE(right, 0.98 * static_cast<double>(planted.size())) << planted.size();
}

TEST(Heuristics, RandomMapsMatchNothing) {
  const HeuristicScorer scorer(pair_grid(Operator::add, 0, 100, 198));
  Random random(5);
  int matched = 0;
  for (int i = 0; i < 100; ++i) {
    std::vector<float> map(10000);
    for (auto& a : map) a = static_cast<float>(random.normal());
    matched += !scorer.matches(map, false).empty();
  }
  EXPECT_LE(matched, 1);
}

TEST(Heuristics, ResultRulesComeFromEffectsAndOperandRulesFromActivations) {
  const auto grid = pair_grid(Operator::add, 0, 100, 198);
  const HeuristicScorer scorer(grid);
  const Heuristic operand{HeuristicFamily::mod, HeuristicOf::op1, 2, 5, {}, {}};
  const Heuristic result{HeuristicFamily::range, HeuristicOf::result, 50, 60, {}, {}};
  const auto found =
      scorer.hybrid_matches(map_of(grid, operand, 0.1, 1), map_of(grid, result, 0.1, 2), false);
  const auto has = [&](const Heuristic& h) {
    return std::any_of(found.begin(), found.end(), [&](const auto& m) { return m.heuristic == h; });
  };
  EXPECT_TRUE(has(operand));
  EXPECT_TRUE(has(result));
}

TEST(Heuristics, NegativeRulesAreSeenFromBothEnds) {
  const auto grid = pair_grid(Operator::add, 0, 60, 118);
  const HeuristicScorer scorer(grid);
  const Heuristic rule{HeuristicFamily::mod, HeuristicOf::op2, 3, 7, {}, {}};
  auto map = map_of(grid, rule, 0.1, 1);
  for (auto& a : map) a = -a;
  EXPECT_TRUE(scorer.matches(map, false).empty());
  ASSERT_FALSE(scorer.matches(map, true).empty());
  EXPECT_EQ(scorer.matches(map, true)[0].heuristic.name(), "op2_3mod7");
}

TEST(Heuristics, RefusesAMapOfAnotherSize) {
  const HeuristicScorer scorer(pair_grid(Operator::add, 0, 10, 18));
  EXPECT_THROW(scorer.score(std::vector<float>(99), false), Error);
}

}  // namespace
}  // namespace cajal::atlas
