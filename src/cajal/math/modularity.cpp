#include "cajal/math/modularity.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <unordered_set>

#include "cajal/core/error.h"

namespace cajal::math {
namespace {

uint64_t name_of(int32_t a, int32_t b) {
  const auto [low, high] = std::minmax(a, b);
  return static_cast<uint64_t>(static_cast<uint32_t>(low)) << 32 | static_cast<uint32_t>(high);
}

double pairs(double n) { return n * (n - 1) / 2; }

}  // namespace

double modularity(const Edges& edges, std::span<const int32_t> groups) {
  require(!edges.empty(), "modularity: a graph without edges");
  std::map<int32_t, double> inside, degree;
  for (const auto& [a, b] : edges) {
    require(std::min(a, b) >= 0 && std::max(a, b) < std::ssize(groups) && a != b,
            "modularity: an edge from {} to {} of {} nodes", a, b, groups.size());
    const auto group_a = groups[static_cast<size_t>(a)], group_b = groups[static_cast<size_t>(b)];
    degree[group_a] += 1, degree[group_b] += 1;
    if (group_a == group_b) inside[group_a] += 1;
  }
  const auto total = static_cast<double>(edges.size());
  double q = 0;
  for (const auto& [group, ends] : degree) {
    const double share = ends / (2 * total);
    q += inside[group] / total - share * share;
  }
  return q;
}

Edges rewired(const Edges& edges, int64_t nodes, int64_t rounds, Random& random) {
  auto out = edges;
  std::unordered_set<uint64_t> there;
  for (const auto& [a, b] : out) {
    require(std::min(a, b) >= 0 && std::max(a, b) < nodes, "rewired: an edge from {} to {}", a, b);
    there.insert(name_of(a, b));
  }
  const auto count = static_cast<uint64_t>(out.size());
  for (uint64_t attempt = 0; attempt < count * static_cast<uint64_t>(rounds); ++attempt) {
    auto &first = out[random.below(count)], &second = out[random.below(count)];
    if (random.below(2) == 1) std::swap(second.first, second.second);
    const auto [a, b] = first;
    const auto [c, d] = second;
    if (a == c || a == d || b == c || b == d) continue;
    if (there.contains(name_of(a, d)) || there.contains(name_of(c, b))) continue;
    there.erase(name_of(a, b)), there.erase(name_of(c, d));
    there.insert(name_of(a, d)), there.insert(name_of(c, b));
    first = {a, d}, second = {c, b};
  }
  return out;
}

double adjusted_rand(std::span<const int32_t> a, std::span<const int32_t> b) {
  require(a.size() == b.size() && !a.empty(), "adjusted_rand: partitions of {} and {}", a.size(),
          b.size());
  std::map<std::pair<int32_t, int32_t>, double> both;
  std::map<int32_t, double> of_a, of_b;
  for (size_t i = 0; i < a.size(); ++i) both[{a[i], b[i]}] += 1, of_a[a[i]] += 1, of_b[b[i]] += 1;
  const auto sum = [](const auto& counts) {
    double out = 0;
    for (const auto& [name, n] : counts) out += pairs(n);
    return out;
  };
  const double together = sum(both), first = sum(of_a), second = sum(of_b);
  const double expected = first * second / std::max(1.0, pairs(static_cast<double>(a.size())));
  const double most = (first + second) / 2;
  return most == expected ? 1 : (together - expected) / (most - expected);
}

std::vector<bool> discoveries(std::span<const double> p, double rate) {
  std::vector<size_t> order(p.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return p[a] < p[b]; });
  std::vector<bool> out(p.size());
  size_t taken = 0;
  for (size_t i = 0; i < order.size(); ++i)
    if (p[order[i]] <= rate * static_cast<double>(i + 1) / static_cast<double>(p.size()))
      taken = i + 1;
  for (size_t i = 0; i < taken; ++i) out[order[i]] = true;
  return out;
}

}  // namespace cajal::math
