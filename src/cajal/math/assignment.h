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

/// The group of each row when every group takes exactly rows / groups of them, at nearly the least
/// total cost: cost [rows, groups] row-major. An auction in which rows bid for places and the
/// least raise of a price shrinks in steps; the total is above the least by at most 1e-4 of the
/// range of the costs a row.
/// Throws Error when the groups do not divide the rows or a cost is not finite.
/// Source: Bertsekas, Castanon 1989 (auction for similar objects).
std::vector<int64_t> assign_balanced(std::span<const float> cost, int64_t rows, int64_t groups);

}  // namespace cajal::math
