#pragma once
#include <cstdint>
#include <span>
#include <vector>

namespace cajal::math {

/// An undirected graph with weights: the neighbours of node i are to[begin[i]] ... and every edge
/// stands with both its nodes.
struct Graph {
  std::vector<int64_t> begin = {0};  // [nodes + 1]
  std::vector<int32_t> to;
  std::vector<float> weight;

  int64_t nodes() const { return std::ssize(begin) - 1; }
  /// The graph of a symmetric matrix [nodes, nodes], row-major, whose entries above 0 off the
  /// diagonal are edges. Throws Error when it is not square or a number is not finite.
  static Graph of_matrix(std::span<const float> matrix, int64_t nodes);
};

/// Weight of the edges between nodes of different parts.
double cut_weight(const Graph& graph, std::span<const int64_t> part);

struct PartitionOptions {
  int64_t parts = 0;
  double imbalance = 0.03;  // that may arise on the way; the parts come out equal
  int tries = 4;            // of each bisection, from other nodes
  uint64_t seed = 0;
};

/// The part of each node when all parts hold as many nodes and little weight is cut: recursive
/// bisection, each grown from one node by the strongest link and then refined by single moves with
/// the best gain, undone behind the best point (Fiduccia-Mattheyses).
/// Throws Error when the parts do not divide the nodes.
/// Source: dossier moefication (Build 1b); Karypis, Kumar 1998.
std::vector<int64_t> partition(const Graph& graph, const PartitionOptions& options);

}  // namespace cajal::math
