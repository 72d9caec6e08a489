#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "cajal/core/options.h"
#include "cajal/core/threads.h"

/// Which simple rule over two operands a neuron follows, judged by the pairs that it is strongest
/// at. Source: Nikankin et al. 2025, arXiv 2410.21272; dossier arithmetic-heuristics.
namespace cajal::atlas {

enum class Operator { add, subtract, multiply, divide };

/// x op y; division is int(x / y).
int64_t apply(Operator op, int64_t x, int64_t y);
const char* sign_of(Operator op);  // "+"

/// The legal pairs of operands in [first, operands): results in [0, max_result], x >= y for
/// subtraction, y > 0 for division. In order of x, then y.
struct PairGrid {
  Operator op = Operator::add;
  int64_t operands = 0, max_result = 0;
  std::vector<int32_t> x, y, result;

  int64_t size() const { return std::ssize(x); }
  /// Legal pairs over operands².
  double share() const {
    return static_cast<double>(size()) / static_cast<double>(operands * operands);
  }
};
PairGrid pair_grid(Operator op, int64_t first, int64_t operands, int64_t max_result);

enum class HeuristicFamily { mod, range, value, pattern, same_operand, multi_value };
enum class HeuristicOf { op1, op2, both_operands, result };

/// A rule: "op1_3mod7", "both_operands_range_0_10", "result_pattern_.3.", "same_operand", ...
struct Heuristic {
  HeuristicFamily family = HeuristicFamily::mod;
  HeuristicOf of = HeuristicOf::op1;
  int64_t a = 0, b = 0;         // a mod b; range [a, b); value a
  std::string pattern = {};     // of three digits, '.' for any
  std::vector<int64_t> values;  // multi_value, ascending

  std::string name() const;
  bool holds(int64_t x, int64_t y, int64_t result) const;
  bool operator==(const Heuristic&) const = default;
};

struct HeuristicMatch {
  Heuristic heuristic;
  double score = 0;  // share of the top k pairs at which the rule holds
};

/// Scores activation maps against every rule. For a rule that N legal pairs satisfy (mod rules and
/// patterns: a formula of the paper's code), the score is the share of the N strongest pairs that
/// satisfy it. Rules that hold at `threshold` of all pairs or more would match anything and are
/// left out, as are rules that hold at the same pairs as an earlier one.
class HeuristicScorer {
 public:
  explicit HeuristicScorer(PairGrid grid, double threshold = 0.6);

  const PairGrid& grid() const { return grid_; }
  /// Rules that do not depend on the map; patterns, values and multi-values are found in it.
  const std::vector<Heuristic>& fixed() const { return fixed_; }

  /// Scores of all fixed rules, then patterns and the like found in this map. `activations` are of
  /// the grid's pairs. `both_ends`: also from the lowest pair up, the larger score counts (for laws
  /// that go below zero). Throws Error for a wrong number of activations.
  std::vector<HeuristicMatch> score(std::span<const float> activations, bool both_ends) const;
  /// Those of `score` at the threshold or above, best first; of equal scores the rule that holds
  /// at fewer pairs first.
  std::vector<HeuristicMatch> matches(std::span<const float> activations, bool both_ends) const;
  /// Operand rules by the activations, result rules by the activations times the neuron's effect on
  /// the answer (the paper's hybrid classes).
  std::vector<HeuristicMatch> hybrid_matches(std::span<const float> activations,
                                             std::span<const float> effects, bool both_ends) const;

  /// Pairs at which the rule holds, ascending.
  std::vector<int64_t> pairs_of(const Heuristic& heuristic) const;
  /// k of the top-k pairs that a rule is judged by.
  int64_t judged_by(const Heuristic& heuristic) const;
  /// The order of pairs that tie, such as all those at which a ReLU neuron is silent. It follows no
  /// rule: in the grid's own order they would look like a range of the first operand.
  const std::vector<int32_t>& mixed() const { return mixed_; }

 private:
  struct Counts;
  void add_fixed(Heuristic heuristic);
  std::vector<double> fixed_scores(std::span<const int32_t> order) const;
  void add_found(std::span<const int32_t> order, std::vector<HeuristicMatch>& out) const;
  std::vector<HeuristicMatch> kept(std::vector<HeuristicMatch> all) const;

  PairGrid grid_;
  double threshold_;
  std::vector<Heuristic> fixed_;
  std::vector<int64_t> judged_by_;      // of fixed_
  std::vector<int64_t> by_k_;           // indices of fixed_, smallest k first
  std::vector<uint64_t> sets_;          // hashes of the pairs of fixed_
  std::vector<int64_t> operand_sizes_;  // of ranges
  std::vector<int32_t> mixed_;
};

/// The scores by a loop over all rules and pairs, for tests and timing.
double naive_score(const PairGrid& grid, const Heuristic& heuristic, int64_t k,
                   std::span<const int32_t> order);

/// Pairs by falling activation; equal ones as they stand in `order`, which names every pair once.
std::vector<int32_t> by_activation(std::span<const float> activations, std::vector<int32_t> order);

}  // namespace cajal::atlas

CAJAL_ENUM(cajal::atlas::Operator, {cajal::atlas::Operator::add, "add"},
           {cajal::atlas::Operator::subtract, "subtract"},
           {cajal::atlas::Operator::multiply, "multiply"},
           {cajal::atlas::Operator::divide, "divide"})
CAJAL_ENUM(cajal::atlas::HeuristicFamily, {cajal::atlas::HeuristicFamily::mod, "mod"},
           {cajal::atlas::HeuristicFamily::range, "range"},
           {cajal::atlas::HeuristicFamily::value, "value"},
           {cajal::atlas::HeuristicFamily::pattern, "pattern"},
           {cajal::atlas::HeuristicFamily::same_operand, "same_operand"},
           {cajal::atlas::HeuristicFamily::multi_value, "multi_value"})
CAJAL_ENUM(cajal::atlas::HeuristicOf, {cajal::atlas::HeuristicOf::op1, "op1"},
           {cajal::atlas::HeuristicOf::op2, "op2"},
           {cajal::atlas::HeuristicOf::both_operands, "both_operands"},
           {cajal::atlas::HeuristicOf::result, "result"})
