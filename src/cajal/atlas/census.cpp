#include "cajal/atlas/census.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <numeric>
#include <queue>

#include "cajal/core/error.h"
#include "cajal/core/random.h"

namespace cajal::atlas {
int64_t neurons_of_percent(int64_t neurons, int percent) {
  return std::max<int64_t>(1, (neurons * percent + 99) / 100);
}

LayerCensus::LayerCensus(std::vector<float> key_norms, std::vector<float> value_norms,
                         bool is_gated, const Collectors& collectors, double firing_threshold)
    : neurons(static_cast<int64_t>(value_norms.size())),
      gated(is_gated),
      key_norm(std::move(key_norms)),
      value_norm(std::move(value_norms)),
      positive(value_norm.size()),
      zero(value_norm.size()),
      top(value_norm.size()),
      sum(value_norm.size()),
      absolute(value_norm.size()),
      square(value_norm.size()),
      peaks(value_norm.size() * peaks_kept),
      fired(value_norm.size()),
      threshold(firing_threshold),
      tables(collectors, neurons) {
  require(neurons > 0 && key_norm.size() == value_norm.size(),
          "census: {} key and {} value rows, expected as many of both", key_norm.size(), neurons);
}

void LayerCensus::merge(const LayerCensus& other) {
  require(neurons == other.neurons && gated == other.gated && key_norm == other.key_norm &&
              value_norm == other.value_norm && threshold == other.threshold,
          "the neurons are not the same ones");
  tables.merge(other.tables);
  tokens += other.tokens, live_tokens += other.live_tokens;
  for (size_t p = 0; p < percents.size(); ++p) token_share[p].add(other.token_share[p]);
  for (int64_t i = 0; i < neurons; ++i) {
    positive[i] += other.positive[i], zero[i] += other.zero[i], top[i] += other.top[i];
    fired[i] += other.fired[i];
    sum[i].add(other.sum[i]), absolute[i].add(other.absolute[i]), square[i].add(other.square[i]);
    for (int k = 0; k < peaks_kept; ++k)
      put_in(&peaks[i * peaks_kept], other.peaks[i * peaks_kept + k]);
  }
}

namespace {
double over(double sum, int64_t count) { return count > 0 ? sum / static_cast<double>(count) : 0; }
double total(const std::vector<int64_t>& counts) {
  return static_cast<double>(std::accumulate(counts.begin(), counts.end(), int64_t{0}));
}
}  // namespace

double LayerCensus::firing_share(int64_t i) const {
  return over(static_cast<double>(positive[i]), tokens);
}
double LayerCensus::rate(int64_t i) const { return over(static_cast<double>(fired[i]), tokens); }
double LayerCensus::mean(int64_t i) const { return over(sum[i].value(), tokens); }
double LayerCensus::mean_norm(int64_t i) const {
  return over(absolute[i].value(), tokens) * value_norm[i];
}
double LayerCensus::energy(int64_t i) const {
  return over(square[i].value(), tokens) * value_norm[i] * value_norm[i];
}
double LayerCensus::hits(int64_t i) const { return over(static_cast<double>(top[i]), tokens); }
bool LayerCensus::dead(int64_t i) const { return gated ? zero[i] == tokens : positive[i] == 0; }

int64_t LayerCensus::dead_count() const {
  int64_t count = 0;
  for (int64_t i = 0; i < neurons; ++i) count += dead(i);
  return count;
}
double LayerCensus::zero_share() const { return over(total(zero), tokens * neurons); }
double LayerCensus::positive_share() const { return over(total(positive), tokens * neurons); }
double LayerCensus::token_curve(size_t p) const {
  return over(token_share[p].value(), live_tokens);
}

double LayerCensus::fixed_curve(double share) const {
  std::vector<double> energies(static_cast<size_t>(neurons));
  for (int64_t i = 0; i < neurons; ++i) energies[i] = energy(i);
  std::sort(energies.begin(), energies.end(), std::greater<>());
  const auto count =
      std::clamp<int64_t>(std::llround(share * static_cast<double>(neurons)), share > 0, neurons);
  const double all = std::accumulate(energies.begin(), energies.end(), 0.0);
  return all > 0 ? std::accumulate(energies.begin(), energies.begin() + count, 0.0) / all : 0;
}

namespace {

// [begin, end) ranges in order, neighbours joined.
std::vector<std::pair<int64_t, int64_t>> join(std::vector<std::pair<int64_t, int64_t>> ranges,
                                              const std::string& a, const std::string& b) {
  std::sort(ranges.begin(), ranges.end());
  std::vector<std::pair<int64_t, int64_t>> out;
  for (const auto& range : ranges) {
    require(out.empty() || range.first >= out.back().second,
            "{} and {} both count unit {} of the text", a, b, range.first);
    if (!out.empty() && out.back().second == range.first)
      out.back().second = range.second;
    else
      out.push_back(range);
  }
  return out;
}

}  // namespace

Census merge(Census a, const Census& b, const std::string& name_a, const std::string& name_b) {
  const auto same = [&](bool equal, const char* what) {
    require(equal, "{} and {} cannot be merged: their {} differ", name_a, name_b, what);
  };
  same(a.model_hash == b.model_hash && a.layers.size() == b.layers.size(), "models");
  same(a.text_hash == b.text_hash && a.text_tokens == b.text_tokens, "texts");
  same(a.context == b.context && a.batch == b.batch && a.units == b.units,
       "windows (--context and --batch)");
  same(a.seed == b.seed, "samples (--seed)");
  auto ranges = a.covered;
  ranges.insert(ranges.end(), b.covered.begin(), b.covered.end());
  a.covered = join(std::move(ranges), name_a, name_b);
  for (auto totals : {&Census::token_totals, &Census::position_totals}) {
    same((a.*totals).size() == (b.*totals).size(), "collectors");
    for (size_t k = 0; k < (a.*totals).size(); ++k) (a.*totals)[k] += (b.*totals)[k];
  }

  // Sampled tokens stay in ascending order, rows of the layers' samples beside them.
  auto tokens = a.sample_tokens;
  tokens.insert(tokens.end(), b.sample_tokens.begin(), b.sample_tokens.end());
  std::vector<size_t> order(tokens.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t x, size_t y) { return tokens[x] < tokens[y]; });
  for (size_t l = 0; l < a.layers.size(); ++l) {
    auto& layer = a.layers[l];
    layer.merge(b.layers[l]);
    const auto width = static_cast<size_t>(layer.neurons);
    std::vector<float> both = std::move(layer.samples);
    both.insert(both.end(), b.layers[l].samples.begin(), b.layers[l].samples.end());
    layer.samples.resize(both.size());
    for (size_t row = 0; row < order.size(); ++row)
      std::copy_n(both.begin() + order[row] * width, width, layer.samples.begin() + row * width);
  }
  a.sample_tokens.clear();
  for (const size_t row : order) a.sample_tokens.push_back(tokens[row]);

  auto contexts = std::move(a.contexts);
  contexts.insert(b.contexts.begin(), b.contexts.end());
  a.contexts.clear();
  for (const auto& layer : a.layers)
    for (const auto& peak : layer.peaks)
      if (const auto found = contexts.find(peak.token); found != contexts.end())
        a.contexts.insert(*found);
  return a;
}

std::vector<int64_t> sample_tokens(int64_t tokens, int64_t count, uint64_t seed) {
  std::priority_queue<std::pair<uint64_t, int64_t>> smallest;  // the largest of them on top
  for (int64_t t = 0; t < tokens && count > 0; ++t) {
    const std::pair<uint64_t, int64_t> candidate{
        split_mix(split_mix(seed) ^ static_cast<uint64_t>(t)), t};
    if (static_cast<int64_t>(smallest.size()) < count) {
      smallest.push(candidate);
    } else if (candidate < smallest.top()) {
      smallest.pop();
      smallest.push(candidate);
    }
  }
  std::vector<int64_t> out;
  for (; !smallest.empty(); smallest.pop()) out.push_back(smallest.top().second);
  std::sort(out.begin(), out.end());
  return out;
}

uint64_t hash_bytes(std::span<const std::byte> bytes, uint64_t seed) {
  uint64_t hash = split_mix(seed ^ bytes.size());
  for (size_t at = 0; at < bytes.size(); at += 8) {
    uint64_t word = 0;
    std::memcpy(&word, bytes.data() + at, std::min<size_t>(8, bytes.size() - at));
    hash = split_mix(hash ^ word);
  }
  return hash;
}

}  // namespace cajal::atlas
