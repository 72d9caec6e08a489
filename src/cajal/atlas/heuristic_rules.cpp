// The rules themselves: operators, the pairs they judge, when a rule holds.
#include "cajal/atlas/heuristics.h"
#include "cajal/core/error.h"

namespace cajal::atlas {
namespace {

std::string three_digits(int64_t number) { return fmt::format("{:03}", number); }

bool fits(std::string_view pattern, int64_t number) {
  const auto digits = three_digits(number);
  if (digits.size() != pattern.size()) return false;
  for (size_t i = 0; i < digits.size(); ++i)
    if (pattern[i] != '.' && pattern[i] != digits[i]) return false;
  return true;
}

}  // namespace

int64_t apply(Operator op, int64_t x, int64_t y) {
  switch (op) {
    case Operator::add:
      return x + y;
    case Operator::subtract:
      return x - y;
    case Operator::multiply:
      return x * y;
    case Operator::divide:
      return x / y;
  }
  fail("operator {} has no meaning", static_cast<int>(op));
}

const char* sign_of(Operator op) {
  static constexpr const char* kSigns[] = {"+", "-", "*", "/"};
  return kSigns[static_cast<int>(op)];
}

PairGrid pair_grid(Operator op, int64_t first, int64_t operands, int64_t max_result) {
  require(
      0 <= first && first < operands && operands <= 1000 && max_result >= 0 && max_result < 1000,
      "pair grid: operands {} to {} and results to {}, expected 0 <= first < operands <= 1000 "
      "and three digits",
      first, operands, max_result);
  PairGrid grid{op, operands, max_result, {}, {}, {}};
  for (int64_t x = first; x < operands; ++x)
    for (int64_t y = first; y < operands; ++y) {
      if (op == Operator::divide && y == 0) continue;
      const int64_t result = apply(op, x, y);
      if (result < 0 || result > max_result) continue;
      grid.x.push_back(static_cast<int32_t>(x));
      grid.y.push_back(static_cast<int32_t>(y));
      grid.result.push_back(static_cast<int32_t>(result));
    }
  return grid;
}

std::string Heuristic::name() const {
  const auto who = to_name(of);
  switch (family) {
    case HeuristicFamily::mod:
      return fmt::format("{}_{}mod{}", who, a, b);
    case HeuristicFamily::range:
      return fmt::format("{}_range_{}_{}", who, a, b);
    case HeuristicFamily::value:
      return fmt::format("{}_value_{:03}", who, a);
    case HeuristicFamily::pattern:
      return fmt::format("{}_pattern_{}", who, pattern);
    case HeuristicFamily::same_operand:
      return "same_operand";
    case HeuristicFamily::multi_value:
      return fmt::format("result_multi_value_{}=[{}]", values.size(), fmt::join(values, ", "));
  }
  fail("heuristic of family {} has no name", static_cast<int>(family));
}

bool Heuristic::holds(int64_t x, int64_t y, int64_t result) const {
  if (family == HeuristicFamily::same_operand) return x == y;
  const auto for_one = [&](int64_t v) {
    switch (family) {
      case HeuristicFamily::mod:
        return v % b == a;
      case HeuristicFamily::range:
        return a <= v && v < b;
      case HeuristicFamily::value:
        return v == a;
      case HeuristicFamily::pattern:
        return fits(pattern, v);
      default:
        return std::find(values.begin(), values.end(), v) != values.end();
    }
  };
  switch (of) {
    case HeuristicOf::op1:
      return for_one(x);
    case HeuristicOf::op2:
      return for_one(y);
    case HeuristicOf::both_operands:
      return for_one(x) && for_one(y);
    default:
      return for_one(result);
  }
}

}  // namespace cajal::atlas
