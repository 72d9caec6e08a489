#include "cajal/math/assignment.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <queue>

#include "cajal/core/error.h"

namespace cajal::math {

std::vector<int64_t> assign(std::span<const float> cost, int64_t rows, int64_t columns) {
  require(rows >= 0 && rows <= columns && std::ssize(cost) == rows * columns,
          "assignment: {} costs for {} rows and {} columns", cost.size(), rows, columns);
  for (const float value : cost) require(std::isfinite(value), "assignment: a cost is not finite");
  constexpr double kFar = std::numeric_limits<double>::infinity();
  const auto m = static_cast<size_t>(columns);
  // Potentials and matches; index 0 of columns stands for the row that seeks a place.
  std::vector<double> row_price(static_cast<size_t>(rows) + 1), column_price(m + 1);
  std::vector<size_t> match(m + 1, 0), came_from(m + 1, 0);
  for (size_t row = 1; row <= static_cast<size_t>(rows); ++row) {
    match[0] = row;
    size_t at = 0;
    std::vector<double> least(m + 1, kFar);
    std::vector<bool> visited(m + 1, false);
    do {
      visited[at] = true;
      const size_t r = match[at];
      double step = kFar;
      size_t next = 0;
      for (size_t c = 1; c <= m; ++c) {
        if (visited[c]) continue;
        const double reduced =
            static_cast<double>(cost[(r - 1) * m + c - 1]) - row_price[r] - column_price[c];
        if (reduced < least[c]) least[c] = reduced, came_from[c] = at;
        if (least[c] < step) step = least[c], next = c;
      }
      for (size_t c = 0; c <= m; ++c) {
        if (visited[c]) {
          row_price[match[c]] += step, column_price[c] -= step;
        } else {
          least[c] -= step;
        }
      }
      at = next;
    } while (match[at] != 0);
    for (; at != 0; at = came_from[at]) match[at] = match[came_from[at]];
  }
  std::vector<int64_t> out(static_cast<size_t>(rows));
  for (size_t c = 1; c <= m; ++c)
    if (match[c] != 0) out[match[c] - 1] = static_cast<int64_t>(c - 1);
  return out;
}

namespace {

struct Place {
  double price;
  int64_t row;                                                              // that holds it, or -1
  bool operator<(const Place& other) const { return price > other.price; }  // cheapest on top
};

/// One round of bidding, until every row holds a place, with raises of at least `least`. `price`
/// [groups] is what the cheapest place of each group costs, before and after. Costs count from
/// `low` on, so that small raises are not lost beside them.
std::vector<int64_t> auction(std::span<const float> cost, double low, int64_t rows, int64_t groups,
                             double least, std::vector<double>& price) {
  const auto count = static_cast<size_t>(groups);
  std::vector<std::priority_queue<Place>> places(count);
  for (size_t g = 0; g < count; ++g)
    for (int64_t k = 0; k < rows / groups; ++k) places[g].push({price[g], -1});
  std::vector<int64_t> held(static_cast<size_t>(rows), -1), waiting(static_cast<size_t>(rows));
  std::iota(waiting.rbegin(), waiting.rend(), 0);
  while (!waiting.empty()) {
    const int64_t row = waiting.back();
    waiting.pop_back();
    const float* of = cost.data() + row * groups;
    size_t best = 0;
    double first = -std::numeric_limits<double>::infinity(), second = first;
    for (size_t g = 0; g < count; ++g) {
      const double worth = low - static_cast<double>(of[g]) - price[g];
      if (worth > first) {
        second = first, first = worth, best = g;
      } else if (worth > second) {
        second = worth;
      }
    }
    const Place cheapest = places[best].top();
    places[best].pop();
    if (cheapest.row >= 0) {
      held[static_cast<size_t>(cheapest.row)] = -1;
      waiting.push_back(cheapest.row);
    }
    places[best].push({price[best] + (groups > 1 ? first - second : 0) + least, row});
    held[static_cast<size_t>(row)] = static_cast<int64_t>(best);
    price[best] = places[best].top().price;
  }
  return held;
}

}  // namespace

std::vector<int64_t> assign_balanced(std::span<const float> cost, int64_t rows, int64_t groups) {
  require(groups >= 1 && rows >= 0 && rows % groups == 0 && std::ssize(cost) == rows * groups,
          "assignment: {} costs for {} rows in {} equal groups", cost.size(), rows, groups);
  for (const float value : cost) require(std::isfinite(value), "assignment: a cost is not finite");
  if (rows == 0) return {};
  const auto [low, high] = std::minmax_element(cost.begin(), cost.end());
  const double range = static_cast<double>(*high) - *low;
  const double last = range > 0 ? 1e-4 * range : 1;
  std::vector<double> price(static_cast<size_t>(groups), 0.0);
  // Large raises first: they settle the prices that small ones would take long to reach.
  double least = std::max(range / 4, last);
  for (; least > last; least = std::max(last, least / 5))
    auction(cost, *low, rows, groups, least, price);
  return auction(cost, *low, rows, groups, last, price);
}

}  // namespace cajal::math
