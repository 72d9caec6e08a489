#include "cajal/math/partition.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "cajal/core/error.h"
#include "cajal/core/random.h"

namespace cajal::math {
namespace {

constexpr int kPasses = 8;

/// Two sides of some nodes of a graph; `first` of them are to stand on side 0.
class Bisection {
 public:
  Bisection(const Graph& graph, const std::vector<int32_t>& nodes, std::vector<int32_t>& place,
            int64_t first, const PartitionOptions& options)
      : graph_(graph), nodes_(nodes), place_(place), first_(first) {
    const auto slack = options.imbalance * static_cast<double>(nodes.size());
    slack_ = std::max<int64_t>(1, std::llround(slack));
    for (size_t i = 0; i < nodes.size(); ++i) place_[static_cast<size_t>(nodes[i])] = int32_t(i);
  }
  ~Bisection() {
    for (const int32_t node : nodes_) place_[static_cast<size_t>(node)] = -1;
  }

  /// Grows side 0 from a node, then refines.
  double solve(size_t from) {
    side_.assign(nodes_.size(), 1);
    std::vector<double> link(nodes_.size());
    size_t next = from;
    for (int64_t k = 0; k < first_; ++k) {
      side_[next] = 0;
      for_edges(next, [&](size_t j, double w) { link[j] += w; });
      double most = -1;
      for (size_t j = 0; j < nodes_.size(); ++j)
        if (side_[j] == 1 && link[j] > most) most = link[j], next = j;
    }
    for (int pass = 0; pass < kPasses; ++pass)
      if (!improve()) break;
    return cut();
  }

  const std::vector<int8_t>& side() const { return side_; }

 private:
  template <class Body>
  void for_edges(size_t i, Body&& body) const {
    const auto node = static_cast<size_t>(nodes_[i]);
    for (int64_t e = graph_.begin[node]; e < graph_.begin[node + 1]; ++e) {
      const int32_t j = place_[static_cast<size_t>(graph_.to[static_cast<size_t>(e)])];
      if (j >= 0) body(static_cast<size_t>(j), double{graph_.weight[static_cast<size_t>(e)]});
    }
  }

  double cut() const {
    double sum = 0;
    for (size_t i = 0; i < nodes_.size(); ++i)
      for_edges(i, [&](size_t j, double w) { sum += side_[i] != side_[j] ? w : 0; });
    return sum / 2;
  }

  /// One pass: every node moves at most once; what came after the best balanced point is undone.
  bool improve() {
    std::vector<double> gain(nodes_.size());
    for (size_t i = 0; i < nodes_.size(); ++i)
      for_edges(i, [&](size_t j, double w) { gain[i] += side_[i] != side_[j] ? w : -w; });
    std::vector<bool> moved(nodes_.size());
    std::vector<size_t> moves;
    int64_t surplus = 0;  // of side 0
    double total = 0, best = 1e-9;
    size_t kept = 0;
    while (moves.size() < nodes_.size()) {
      size_t next = nodes_.size();
      for (size_t i = 0; i < nodes_.size(); ++i) {
        const int64_t after = surplus + (side_[i] == 0 ? -1 : 1);
        if (moved[i] || std::abs(after) > slack_) continue;
        if (next == nodes_.size() || gain[i] > gain[next]) next = i;
      }
      if (next == nodes_.size()) break;
      total += gain[next];
      surplus += side_[next] == 0 ? -1 : 1;
      move(next, gain);
      moved[next] = true;
      moves.push_back(next);
      if (surplus == 0 && total > best) best = total, kept = moves.size();
    }
    for (size_t k = moves.size(); k > kept; --k) side_[moves[k - 1]] ^= 1;
    return kept > 0;
  }

  void move(size_t i, std::vector<double>& gain) {
    side_[i] ^= 1;
    gain[i] = -gain[i];
    for_edges(i, [&](size_t j, double w) { gain[j] += side_[i] == side_[j] ? -2 * w : 2 * w; });
  }

  const Graph& graph_;
  const std::vector<int32_t>& nodes_;
  std::vector<int32_t>& place_;  // [nodes of the graph]: where a node stands in `nodes_`, or -1
  int64_t first_, slack_ = 1;
  std::vector<int8_t> side_;
};

class Partitioner {
 public:
  Partitioner(const Graph& graph, const PartitionOptions& options)
      : graph_(graph),
        options_(options),
        random_(options.seed),
        size_(graph.nodes() / options.parts),
        place_(static_cast<size_t>(graph.nodes()), -1),
        part_(static_cast<size_t>(graph.nodes())) {}

  std::vector<int64_t> run() {
    std::vector<int32_t> all(part_.size());
    std::iota(all.begin(), all.end(), 0);
    divide(all, 0, options_.parts);
    return part_;
  }

 private:
  void divide(const std::vector<int32_t>& nodes, int64_t first_part, int64_t parts) {
    if (parts == 1) {
      for (const int32_t node : nodes) part_[static_cast<size_t>(node)] = first_part;
      return;
    }
    std::vector<int8_t> best;
    {
      Bisection bisection(graph_, nodes, place_, parts / 2 * size_, options_);
      double least = INFINITY;
      for (int k = 0; k < std::max(1, options_.tries); ++k) {
        const double cut = bisection.solve(random_.below(nodes.size()));
        if (cut < least) least = cut, best = bisection.side();
      }
    }
    std::vector<int32_t> sides[2];
    for (size_t i = 0; i < nodes.size(); ++i) sides[best[i]].push_back(nodes[i]);
    divide(sides[0], first_part, parts / 2);
    divide(sides[1], first_part + parts / 2, parts - parts / 2);
  }

  const Graph& graph_;
  const PartitionOptions& options_;
  Random random_;
  int64_t size_;
  std::vector<int32_t> place_;
  std::vector<int64_t> part_;
};

}  // namespace

Graph Graph::of_matrix(std::span<const float> matrix, int64_t nodes) {
  require(nodes >= 0 && std::ssize(matrix) == nodes * nodes,
          "graph: {} numbers for the links of {} nodes", matrix.size(), nodes);
  Graph out;
  for (int64_t i = 0; i < nodes; ++i) {
    for (int64_t j = 0; j < nodes; ++j) {
      const float weight = matrix[static_cast<size_t>(i * nodes + j)];
      require(std::isfinite(weight), "graph: a weight is not finite");
      if (i == j || weight <= 0) continue;
      out.to.push_back(static_cast<int32_t>(j));
      out.weight.push_back(weight);
    }
    out.begin.push_back(std::ssize(out.to));
  }
  return out;
}

double cut_weight(const Graph& graph, std::span<const int64_t> part) {
  require(std::ssize(part) == graph.nodes(), "graph: parts of {} nodes, expected {}", part.size(),
          graph.nodes());
  double sum = 0;
  for (size_t i = 0; i < part.size(); ++i)
    for (int64_t e = graph.begin[i]; e < graph.begin[i + 1]; ++e)
      if (part[static_cast<size_t>(graph.to[static_cast<size_t>(e)])] != part[i])
        sum += graph.weight[static_cast<size_t>(e)];
  return sum / 2;
}

std::vector<int64_t> partition(const Graph& graph, const PartitionOptions& options) {
  require(options.parts >= 1 && graph.nodes() % options.parts == 0 && graph.nodes() > 0,
          "graph: {} parts do not divide {} nodes", options.parts, graph.nodes());
  return Partitioner(graph, options).run();
}

}  // namespace cajal::math
