#pragma once
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "cajal/core/random.h"

/// How well a partition fits a graph, and how alike two partitions are.
namespace cajal::math {

using Edges = std::vector<std::pair<int32_t, int32_t>>;

/// Newman's Q of an undirected graph without loops: the share of edges inside of groups minus what
/// it would be with the same degrees at random. `groups` names the group of each node.
/// Throws Error for a node out of range and a graph without edges.
/// Source: Newman, Girvan 2004, arXiv cond-mat/0308217.
double modularity(const Edges& edges, std::span<const int32_t> groups);

/// A random simple graph of the same degrees: `rounds` attempts an edge to swap the ends of two.
Edges rewired(const Edges& edges, int64_t nodes, int64_t rounds, Random& random);

/// Agreement of two partitions of the same things, 1 = the same, 0 = what chance gives.
/// Throws Error for partitions of other lengths. Source: Hubert, Arabie 1985.
double adjusted_rand(std::span<const int32_t> a, std::span<const int32_t> b);

/// Which of the p-values are called significant at false discovery rate `rate`.
/// Source: Benjamini, Hochberg 1995.
std::vector<bool> discoveries(std::span<const double> p, double rate);

}  // namespace cajal::math
