#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>

#include "cajal/atlas/census.h"
#include "cajal/core/error.h"
#include "cajal/kernels/columns.h"

namespace cajal::atlas {
namespace {

constexpr int64_t kRowsAtOnce = 64;  // of all neurons they fit into L2

bool stronger(const Peak& a, const Peak& b) {
  if (b.token < 0 || a.token < 0) return a.token >= 0;
  const float x = std::fabs(a.activation), y = std::fabs(b.activation);
  return x > y || (x == y && a.token < b.token);
}

// What |a| must exceed to be among them, if it comes later in the text.
float weakest(const Peak* best) {
  const auto& last = best[LayerCensus::peaks_kept - 1];
  return last.token < 0 ? -1.0f : std::fabs(last.activation);
}

// What the tokens say about the layer as a whole.
struct TokenShares {
  std::vector<float> least;  // smallest output energy among the top tenth; 0 where fewer wrote
  std::vector<double> total;
  std::vector<std::array<double, LayerCensus::percents.size()>> share;
};

// The sum in four chains, which an optimiser may keep apart.
double sum_of(std::span<const float> values) {
  double chain[4] = {};
  size_t i = 0;
  for (; i + 4 <= values.size(); i += 4)
    for (size_t k = 0; k < 4; ++k) chain[k] += values[i + k];
  for (; i < values.size(); ++i) chain[0] += values[i];
  return (chain[0] + chain[1]) + (chain[2] + chain[3]);
}

// `live` are the energies that are not 0, which is most often a small part, and is reordered:
// selecting the largest half, then the largest quarter inside it, and so on down, costs about as
// much as one pass of sorting the half.
void find_shares(std::span<float> live, int64_t neurons, size_t row, TokenShares& out) {
  const double total = out.total[row] = sum_of(live);
  if (!(total > 0)) return;
  auto end = live.end();
  double held = total;
  for (size_t p = LayerCensus::percents.size(); p-- > 0;) {
    const auto count = neurons_of_percent(neurons, LayerCensus::percents[p]);
    if (count <= std::ssize(live)) {
      const auto last = live.begin() + (count - 1);
      if (last < end) std::nth_element(live.begin(), last, end, std::greater<>());
      end = last + 1;
      if (LayerCensus::percents[p] == 10) out.least[row] = *last;
      held = sum_of({live.begin(), end});
    }
    out.share[row][p] = held / total;
  }
}

TokenShares token_shares(std::span<const float> activations, const std::vector<float>& value_norm,
                         ThreadPool& threads) {
  const auto neurons = std::ssize(value_norm), rows = std::ssize(activations) / neurons;
  const auto n = static_cast<size_t>(rows);
  TokenShares out{std::vector<float>(n), std::vector<double>(n), decltype(out.share)(n)};
  threads.parallel_for(rows, 1, [&](int64_t begin, int64_t end) {
    std::vector<float> energies(static_cast<size_t>(neurons + kColumns));
    for (int64_t t = begin; t < end; ++t) {
      const auto live = live_energies(activations.data() + t * neurons, value_norm.data(), neurons,
                                      energies.data());
      find_shares({energies.data(), static_cast<size_t>(live)}, neurons, static_cast<size_t>(t),
                  out);
    }
  });
  return out;
}

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

// Looks for new peaks of the columns whose largest |a| promises one.
void find_peaks(LayerCensus& layer, const ColumnRows& rows, ColumnSums& sums, int64_t first_neuron,
                int64_t first_token) {
  for (int64_t i = 0; i < rows.columns; ++i) {
    Peak* best = &layer.peaks[(first_neuron + i) * LayerCensus::peaks_kept];
    float least = weakest(best);
    if (std::exchange(sums.largest[i], 0.0f) <= least) continue;
    for (int64_t t = 0; t < rows.rows; ++t) {
      const float a = rows.post[t * rows.stride + i];
      if (std::fabs(a) <= least) continue;
      put_in(best, {a, first_token + t});
      least = weakest(best);
    }
  }
}

void take_over(LayerCensus& layer, const ColumnSums& sums, int64_t first, int64_t columns) {
  for (int64_t i = 0; i < columns; ++i) {
    const auto n = first + i;
    layer.sum[n].add(sums.sum[i]), layer.absolute[n].add(sums.absolute[i]);
    layer.square[n].add(sums.square[i]);
    layer.positive[n] += sums.positive[i], layer.zero[n] += sums.zero[i];
    layer.top[n] += sums.high[i], layer.fired[n] += sums.fired[i];
    if (!layer.tables.kind.shapes) continue;
    for (size_t k = 0; k < 4; ++k) layer.tables.moments.power[k][n].add(sums.power[k][i]);
  }
}

}  // namespace

void put_in(Peak* best, Peak peak) {
  for (int i = 0; i < LayerCensus::peaks_kept; ++i)
    if (stronger(peak, best[i])) std::swap(peak, best[i]);
}

void LayerCensus::add(std::span<const float> activations, int64_t first_token,
                      ThreadPool& threads) {
  add(Slab{.post = activations, .pre = {}, .ids = {}, .first_token = first_token, .fired = {}},
      threads);
}

void LayerCensus::add(Slab slab, ThreadPool& threads) {
  require(neurons > 0 && slab.post.size() % static_cast<size_t>(neurons) == 0,
          "census: {} activations are not rows of {} neurons", slab.post.size(), neurons);
  const int64_t rows = static_cast<int64_t>(slab.post.size()) / neurons;
  check(slab, *this, rows);
  tables.unpack();

  const auto shares = token_shares(slab.post, value_norm, threads);
  for (size_t t = 0; t < shares.total.size(); ++t) {
    require(std::isfinite(shares.total[t]), "an activation is not finite");
    if (!(shares.total[t] > 0)) continue;
    ++live_tokens;
    for (size_t p = 0; p < percents.size(); ++p) token_share[p].add(shares.share[t][p]);
  }

  // Neurons are divided among the threads and tokens are taken in order: the same sums for any
  // number of threads.
  const float* asked = slab.pre.empty() ? slab.post.data() : slab.pre.data();
  static thread_local std::vector<uint8_t> fires;  // kept: a fresh one would be zeroed page by page
  fires.resize(std::max(fires.size(), slab.post.size()));
  uint8_t* const fired_here = fires.data();
  slab.fired = {fired_here, slab.post.size()};
  threads.parallel_for(neurons, kColumns, [&](int64_t begin, int64_t end) {
    std::vector<ColumnSums> sums(static_cast<size_t>((end - begin + kColumns - 1) / kColumns));
    for (int64_t t = 0; t < rows; t += kRowsAtOnce) {
      for (int64_t i = begin; i < end; i += kColumns) {
        const auto at = t * neurons + i;
        const ColumnRows part{.post = slab.post.data() + at,
                              .asked = asked + at,
                              .norm = value_norm.data() + i,
                              .least = shares.least.data() + t,
                              .stride = neurons,
                              .rows = std::min(kRowsAtOnce, rows - t),
                              .columns = std::min(kColumns, end - i),
                              .threshold = static_cast<float>(threshold)};
        auto& sum = sums[static_cast<size_t>((i - begin) / kColumns)];
        add_columns(part, sum, fired_here + at,
                    tables.kind.shapes ? &tables.histogram.count[i * Histogram::bins] : nullptr);
        find_peaks(*this, part, sum, i, slab.first_token + t);
      }
    }
    for (int64_t i = begin; i < end; i += kColumns)
      take_over(*this, sums[static_cast<size_t>((i - begin) / kColumns)], i,
                std::min(kColumns, end - i));
    tables.add(slab, begin, end, neurons);
  });
  tokens += rows;
}

}  // namespace cajal::atlas
