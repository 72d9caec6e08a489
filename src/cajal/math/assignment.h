#pragma once
#include <cstdint>
#include <span>
#include <vector>

namespace cajal::math {

/// The column of each row in the one-to-one assignment of least total cost: cost [rows, columns]
/// row-major, rows <= columns. Shortest augmenting paths, O(rows² columns).
/// Throws Error when the sizes do not fit or a cost is not finite.
/// Source: Kuhn 1955; Jonker, Volgenant 1987.
std::vector<int64_t> assign(std::span<const float> cost, int64_t rows, int64_t columns);

}  // namespace cajal::math
