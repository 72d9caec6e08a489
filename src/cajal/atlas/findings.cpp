#include "cajal/atlas/findings.h"

#include <algorithm>
#include <cmath>
#include <complex>
#include <numbers>
#include <numeric>

#include "cajal/core/error.h"

namespace cajal::atlas {
namespace {

const LayerCensus& layer_of(const Census& census, int64_t layer, int64_t neuron) {
  require(layer >= 0 && layer < std::ssize(census.layers), "layer {}: the atlas has {}", layer,
          census.layers.size());
  const auto& out = census.layers[static_cast<size_t>(layer)];
  require(neuron >= 0 && neuron < out.neurons, "neuron {}: layer {} has {}", neuron, layer,
          out.neurons);
  return out;
}

struct Counted {
  int64_t key = 0, count = 0;
  int64_t total = -1;  // occurrences; -1 = not known
};

// Takes the most frequent keys until they cover enough; false when that needs too many.
bool cover(std::vector<Counted> keys, int64_t firings, const TriggerOptions& options,
           Triggers& out) {
  const auto most = std::min<int64_t>(options.most, std::ssize(keys));
  std::partial_sort(keys.begin(), keys.begin() + most, keys.end(),
                    [](const Counted& a, const Counted& b) {
                      return a.count != b.count ? a.count > b.count : a.key < b.key;
                    });
  int64_t covered = 0, occurrences = 0;
  const double enough = options.coverage * static_cast<double>(firings);
  for (int64_t k = 0; k < most && static_cast<double>(covered) < enough; ++k) {
    covered += keys[k].count;
    occurrences = keys[k].total < 0 || occurrences < 0 ? -1 : occurrences + keys[k].total;
    out.keys.push_back(keys[k].key), out.counts.push_back(keys[k].count);
  }
  if (static_cast<double>(covered) < enough) {
    out.keys.clear(), out.counts.clear();
    return false;
  }
  out.covered = static_cast<double>(covered) / static_cast<double>(firings);
  if (occurrences > 0) out.selectivity = static_cast<double>(covered) / occurrences;
  out.pure = out.selectivity >= options.selectivity;
  return true;
}

}  // namespace

GramTotals::GramTotals(const Census& census, std::span<const int32_t> ids) {
  require(
      std::ssize(ids) == census.text_tokens && hash_bytes(std::as_bytes(ids)) == census.text_hash,
      "this is not the text of the atlas");
  std::vector<uint64_t> hashes;
  int orders = 1;
  for (const auto& layer : census.layers) {
    orders = std::max(orders, layer.tables.kind.orders);
    for (const auto& table : layer.tables.grams)
      for (int64_t i = 0; i < layer.neurons; ++i)
        for (const auto& gram : table.of(i)) hashes.push_back(gram.hash);
  }
  std::sort(hashes.begin(), hashes.end());
  hashes.erase(std::unique(hashes.begin(), hashes.end()), hashes.end());
  for (const auto hash : hashes) totals_.emplace_back(hash, 0);
  if (hashes.empty()) return;
  const auto step =
      std::ssize(census.position_totals) > 0 ? std::ssize(census.position_totals) : census.context;
  for (const auto& [first, end] : census.covered)
    for (auto t = first * census.batch * step;
         t < std::min(end * census.batch * step, census.text_tokens); ++t)
      for (int order = 2; order <= orders && t % step + 1 >= order; ++order) {
        const std::pair<uint64_t, int64_t> wanted{gram_hash(ids, t, order), 0};
        const auto at = std::lower_bound(totals_.begin(), totals_.end(), wanted,
                                         [](auto& a, auto& b) { return a.first < b.first; });
        if (at != totals_.end() && at->first == wanted.first) ++at->second;
      }
}

int64_t GramTotals::of(uint64_t hash) const {
  const auto at = std::lower_bound(totals_.begin(), totals_.end(), hash,
                                   [](const auto& a, uint64_t b) { return a.first < b; });
  return at != totals_.end() && at->first == hash ? at->second : 0;
}

Triggers find_triggers(const Census& census, int64_t l, int64_t neuron,
                       const TriggerOptions& options, const GramTotals* totals) {
  const auto& layer = layer_of(census, l, neuron);
  require(layer.tables.tokens.defined(), "the atlas has no token table (build it with tables)");
  Triggers first;
  const auto firings = layer.fired[neuron];
  first.rare = firings < options.least_firings;
  if (first.rare) return first;
  std::vector<Counted> keys;
  for (const auto& [key, count] : layer.tables.tokens.of(neuron))
    keys.push_back({key, count, census.token_totals[static_cast<size_t>(key)]});
  if (!cover(std::move(keys), firings, options, first)) return first;  // nor do few n-grams suffice
  first.order = 1;
  if (first.pure) return first;
  for (const auto& table : layer.tables.grams) {
    if (table.given_up(neuron) || !totals) continue;
    keys.clear();
    for (const auto& gram : table.of(neuron))
      keys.push_back({gram.last, gram.count, totals->of(gram.hash)});
    Triggers longer;
    if (!cover(std::move(keys), firings, options, longer) || !longer.pure) continue;
    longer.order = table.order();
    return longer;
  }
  return first;
}

double position_information(std::span<const double> rate) {
  if (rate.empty()) return 0;
  const auto n = static_cast<double>(rate.size());
  const double mean = std::accumulate(rate.begin(), rate.end(), 0.0) / n;
  const auto part = [](double x, double of) { return x > 0 ? x * std::log(x / of) : 0.0; };
  double sum = 0;
  for (const double r : rate) sum += part(r, mean) + part(1 - r, 1 - mean);
  return sum / n;
}

namespace {

// The largest share of one DFT line in the power of what varies.
double dominant_line(std::span<const double> x) {
  const auto n = x.size();
  const double mean = std::accumulate(x.begin(), x.end(), 0.0) / static_cast<double>(n);
  double all = 0, most = 0;
  for (size_t k = 1; 2 * k <= n; ++k) {
    const auto turn = std::polar(1.0, -2 * std::numbers::pi * static_cast<double>(k) / n);
    std::complex<double> sum = 0, at = 1;
    for (const double value : x) sum += (value - mean) * at, at *= turn;
    const double power = std::norm(sum) * (2 * k == n ? 0.5 : 1.0);
    all += power, most = std::max(most, power);
  }
  return all > 0 ? most / all : 0;
}

}  // namespace

Positional find_positional(const Census& census, int64_t l, int64_t neuron,
                           const PositionalOptions& options) {
  const auto& layer = layer_of(census, l, neuron);
  require(layer.tables.positions.defined(), "the atlas has no position table");
  std::vector<double> fired(static_cast<size_t>(layer.tables.positions.keys()));
  for (const auto& [position, count] : layer.tables.positions.of(neuron))
    fired[static_cast<size_t>(position)] = static_cast<double>(count);
  Positional out;
  double bias = 0;
  for (size_t p = options.skip_first; p < fired.size(); ++p) {
    const auto total = static_cast<double>(census.position_totals[p]);
    if (total <= 0) continue;
    out.rate.push_back(fired[p] / total);
    bias += 1 / (2 * total);
  }
  if (out.rate.size() < 2) return out;
  out.information =
      std::max(0.0, position_information(out.rate) - bias / static_cast<double>(out.rate.size()));
  int before = 0;
  size_t decided = 0;
  for (const double r : out.rate) {
    const int state = r > options.on ? 1 : r < options.off ? -1 : 0;
    if (state == 0) continue;
    ++decided;
    if (before != 0 && state != before) ++out.switches;
    before = state;
  }
  if (out.information <= options.information) return out;
  const bool clear =
      static_cast<double>(decided) >= options.decided * static_cast<double>(out.rate.size());
  if (clear && out.switches >= 1 && out.switches <= 2)
    out.kind = PositionKind::range;
  else if (out.switches > 2 || dominant_line(out.rate) > options.line)
    out.kind = PositionKind::oscillatory;
  else
    out.kind = PositionKind::weak;
  return out;
}

}  // namespace cajal::atlas
