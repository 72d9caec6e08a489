#include "cajal/atlas/census.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <numeric>
#include <queue>

#include "cajal/core/error.h"
#include "cajal/core/random.h"

namespace cajal::atlas {
namespace {

bool stronger(const Peak& a, const Peak& b) {
  if (b.token < 0 || a.token < 0) return a.token >= 0;
  const float x = std::fabs(a.activation), y = std::fabs(b.activation);
  return x > y || (x == y && a.token < b.token);
}

// Puts `peak` in its place among the best of one neuron, the last of which falls out.
void insert_peak(Peak* best, Peak peak) {
  for (int i = 0; i < LayerCensus::peaks_kept; ++i)
    if (stronger(peak, best[i])) std::swap(peak, best[i]);
}

// What one token says about the layer as a whole.
struct TokenShares {
  float top_energy = 0;  // smallest output energy among the top tenth
  double total = 0;
  std::array<double, LayerCensus::percents.size()> share{};
};

// `energies` is reordered: selecting the largest half, then the largest quarter inside it, and so
// on down, costs about as much as one pass of sorting the half.
TokenShares token_shares(std::span<float> energies) {
  TokenShares out;
  const auto neurons = static_cast<int64_t>(energies.size());
  out.total = std::accumulate(energies.begin(), energies.end(), 0.0);
  if (!(out.total > 0)) return out;
  auto end = energies.end();
  for (size_t p = LayerCensus::percents.size(); p-- > 0;) {
    const auto count = neurons_of_percent(neurons, LayerCensus::percents[p]);
    const auto last = energies.begin() + (count - 1);
    if (last < end) std::nth_element(energies.begin(), last, end, std::greater<>());
    end = last + 1;
    if (LayerCensus::percents[p] == 10) out.top_energy = *last;
    out.share[p] = std::accumulate(energies.begin(), end, 0.0) / out.total;
  }
  return out;
}

}  // namespace

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

void LayerCensus::add(std::span<const float> activations, int64_t first_token,
                      ThreadPool& threads) {
  add(Slab{.post = activations, .pre = {}, .ids = {}, .first_token = first_token, .fired = {}},
      threads);
}

namespace {

void check(const Slab& slab, const LayerCensus& layer, int64_t rows) {
  require(slab.pre.empty() || slab.pre.size() == slab.post.size(),
          "census: {} inputs to the law for {} activations", slab.pre.size(), slab.post.size());
  const auto& kind = layer.tables.kind;
  require(!kind.shapes || !slab.pre.empty(), "census: shapes need the inputs to the law");
  require(slab.window >= 0 && (slab.window == 0 || rows % slab.window == 0),
          "census: {} rows are not windows of {}", rows, slab.window);
  require(kind.positions == 0 || (slab.window ? slab.window : rows) <= kind.positions,
          "census: windows of {} for {} positions", slab.window, kind.positions);
  const bool needs_ids = kind.vocabulary > 0 || kind.orders > 1;
  require(!needs_ids || (slab.first_token >= 0 && slab.first_token + rows <= std::ssize(slab.ids)),
          "census: tokens and n-grams need the ids of the text");
  for (int64_t t = 0; kind.vocabulary > 0 && t < rows; ++t)
    require(slab.ids[slab.first_token + t] >= 0 && slab.ids[slab.first_token + t] < kind.vocabulary,
            "census: id {} of a vocabulary of {}", slab.ids[slab.first_token + t], kind.vocabulary);
}

}  // namespace

void LayerCensus::add(Slab slab, ThreadPool& threads) {
  const auto activations = slab.post;
  const auto first_token = slab.first_token;
  require(neurons > 0 && activations.size() % static_cast<size_t>(neurons) == 0,
          "census: {} activations are not rows of {} neurons", activations.size(), neurons);
  const int64_t rows = static_cast<int64_t>(activations.size()) / neurons;
  check(slab, *this, rows);
  tables.unpack();

  std::vector<TokenShares> shares(static_cast<size_t>(rows));
  threads.parallel_for(rows, 1, [&](int64_t begin, int64_t end) {
    std::vector<float> energies(static_cast<size_t>(neurons));
    for (int64_t t = begin; t < end; ++t) {
      const float* a = activations.data() + t * neurons;
      for (int64_t i = 0; i < neurons; ++i) {
        const float n = a[i] * value_norm[i];
        energies[i] = n * n;
      }
      shares[t] = token_shares(energies);
    }
  });
  for (const auto& token : shares) {
    require(std::isfinite(token.total), "an activation is not finite");
    if (!(token.total > 0)) continue;
    ++live_tokens;
    for (size_t p = 0; p < percents.size(); ++p) token_share[p].add(token.share[p]);
  }

  // Neurons are divided among the threads and tokens are taken in order: the same sums for any
  // number of threads.
  const float* asked = slab.pre.empty() ? activations.data() : slab.pre.data();
  std::vector<uint8_t> fires(activations.size());
  slab.fired = fires;
  threads.parallel_for(neurons, 64, [&](int64_t begin, int64_t end) {
    const auto count = static_cast<size_t>(end - begin);
    std::vector<double> s(count), s1(count), s2(count);
    std::vector<int32_t> plus(count), none(count), high(count), lit(count);
    std::vector<float> weakest(count);
    for (size_t i = 0; i < count; ++i) {
      const auto& last = peaks[(begin + i + 1) * peaks_kept - 1];
      weakest[i] = last.token < 0 ? -1.0f : std::fabs(last.activation);
    }
    for (int64_t t = 0; t < rows; ++t) {
      const float* a = activations.data() + t * neurons + begin;
      const float* norm = value_norm.data() + begin;
      const float least = shares[t].top_energy;
      for (size_t i = 0; i < count; ++i) {
        const double x = a[i];
        s[i] += x;
        s1[i] += std::fabs(x);
        s2[i] += x * x;
        plus[i] += a[i] > 0;
        none[i] += a[i] == 0;
        const float n = a[i] * norm[i];
        high[i] += (n * n >= least) & (a[i] != 0);
      }
      uint8_t* fire = fires.data() + t * neurons + begin;
      const float* x = asked + t * neurons + begin;
      const auto limit = static_cast<float>(threshold);
      if (limit > 0) {
        for (size_t i = 0; i < count; ++i) fire[i] = std::fabs(a[i]) > limit;
      } else {
        for (size_t i = 0; i < count; ++i) fire[i] = x[i] > 0;
      }
      for (size_t i = 0; i < count; ++i) lit[i] += fire[i];
      for (size_t i = 0; i < count; ++i) {
        if (std::fabs(a[i]) <= weakest[i]) continue;
        Peak* best = &peaks[(begin + i) * peaks_kept];
        insert_peak(best, {a[i], first_token + t});
        const auto& last = best[peaks_kept - 1];
        weakest[i] = last.token < 0 ? -1.0f : std::fabs(last.activation);
      }
    }
    for (size_t i = 0; i < count; ++i) {
      sum[begin + i].add(s[i]), absolute[begin + i].add(s1[i]), square[begin + i].add(s2[i]);
      positive[begin + i] += plus[i], zero[begin + i] += none[i], top[begin + i] += high[i];
      fired[begin + i] += lit[i];
    }
    tables.add(slab, begin, end, neurons);
  });
  tokens += rows;
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
      insert_peak(&peaks[i * peaks_kept], other.peaks[i * peaks_kept + k]);
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
