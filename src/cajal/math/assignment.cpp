#include "cajal/math/assignment.h"

#include <cmath>
#include <limits>

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

}  // namespace cajal::math
