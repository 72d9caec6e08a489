#include "cajal/atlas/multifractal.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

#include "cajal/core/error.h"
#include "cajal/core/random.h"
#include "cajal/math/ranks.h"

namespace cajal::atlas {
namespace {

void check(const MultifractalOptions& o) {
  require(o.theta > 0 && o.least >= 0 && o.least < o.theta && o.min_edges >= 0 && o.q_max > 0 &&
              o.q_steps > 0 && o.quantile >= 0 && o.quantile < 1,
          "multifractal: theta {}, least {}, min_edges {}, q_max {}, q_steps {}, quantile {}; "
          "expected 0 <= least < theta, positive q and a quantile in [0, 1)",
          o.theta, o.least, o.min_edges, o.q_max, o.q_steps, o.quantile);
}

bool counts(double d, const MultifractalOptions& o) { return d > o.least && d <= o.theta; }

double quantile_scale(std::vector<double> all, const MultifractalOptions& o) {
  if (o.quantile == 0 || all.empty()) return 1;
  const auto at = static_cast<size_t>(o.quantile * static_cast<double>(all.size() - 1));
  std::nth_element(all.begin(), all.begin() + static_cast<int64_t>(at), all.end());
  return o.theta / all[at];
}

// Whole radii of the counted edges of one node -> how many edges have each.
using Counts = std::vector<std::pair<int64_t, int64_t>>;

Counts histogram(std::vector<int64_t>& rounded) {
  std::sort(rounded.begin(), rounded.end());
  Counts out;
  for (const int64_t r : rounded) {
    if (out.empty() || out.back().first != r) out.emplace_back(r, 0);
    ++out.back().second;
  }
  return out;
}

MassCounts masses(const std::vector<Counts>& nodes) {
  std::set<int64_t> all;
  for (const auto& node : nodes)
    for (const auto& [radius, count] : node) all.insert(radius);
  MassCounts out;
  out.radii.assign(all.begin(), all.end());
  for (const auto& node : nodes) {
    auto& mass = out.mass.emplace_back();
    mass.reserve(out.radii.size());
    int64_t sum = 1;
    size_t next = 0;
    for (const double radius : out.radii) {
      while (next < node.size() && static_cast<double>(node[next].first) <= radius)
        sum += node[next++].second;
      mass.push_back(sum);
    }
  }
  return out;
}

constexpr int64_t kChunk = 256;  // nodes summed in one go: fixed, so that threads do not matter

double deviation(const std::vector<double>& v, double mean) {
  if (v.size() < 2) return 0;
  double sum = 0;
  for (const double x : v) sum += (x - mean) * (x - mean);
  return std::sqrt(sum / static_cast<double>(v.size() - 1));
}

double mean(const std::vector<double>& v) {
  return v.empty() ? 0 : std::accumulate(v.begin(), v.end(), 0.0) / static_cast<double>(v.size());
}

}  // namespace

MassCounts count_mass(const Distances& distances, const MultifractalOptions& o) {
  check(o);
  std::vector<double> all;
  if (o.quantile > 0)
    for (const auto& node : distances) all.insert(all.end(), node.begin(), node.end());
  const double scale = quantile_scale(std::move(all), o);
  std::vector<Counts> nodes;
  std::vector<int64_t> rounded;
  for (const auto& node : distances) {
    rounded.clear();
    for (const double d : node)
      if (counts(d * scale, o)) rounded.push_back(std::llrint(d * scale));
    if (std::ssize(rounded) > o.min_edges) nodes.push_back(histogram(rounded));
  }
  return masses(nodes);
}

MassCounts count_mass(const std::vector<EdgeLayer>& layers, const MultifractalOptions& o,
                      ThreadPool& threads) {
  check(o);
  require(o.quantile == 0, "multifractal: the whole graph is not scaled by a quantile");
  require(o.theta < 1e6, "multifractal: theta {} is too wide for counting the whole graph",
          o.theta);
  std::vector<Counts> nodes;
  const auto bins = static_cast<size_t>(std::llrint(o.theta)) + 1;
  for (const auto& layer : layers) {
    const auto weight = layer.weight.to(torch::kFloat).contiguous();
    const auto* data = weight.data_ptr<float>();
    const int64_t targets = weight.size(1);
    std::vector<Counts> rows(static_cast<size_t>(weight.size(0)));
    threads.parallel_for(weight.size(0), 1, [&](int64_t begin, int64_t end) {
      std::vector<int64_t> bin(bins);
      for (int64_t row = begin; row < end; ++row) {
        std::fill(bin.begin(), bin.end(), 0);
        int64_t edges = 0;
        for (const float* w = data + row * targets; w < data + (row + 1) * targets; ++w) {
          const double d = 1 / std::abs(static_cast<double>(*w));  // of a zero: infinite
          if (counts(d, o)) ++bin[static_cast<size_t>(std::llrint(d))], ++edges;
        }
        if (edges <= o.min_edges) continue;
        for (size_t r = 0; r < bins; ++r)
          if (bin[r]) rows[static_cast<size_t>(row)].emplace_back(static_cast<int64_t>(r), bin[r]);
      }
    });
    for (auto& row : rows)
      if (!row.empty()) nodes.push_back(std::move(row));
  }
  return masses(nodes);
}

Spectrum multifractal(MassCounts counts, const MultifractalOptions& o, ThreadPool& threads) {
  check(o);
  require(!counts.mass.empty() && counts.radii.size() > 1,
          "multifractal: {} nodes and {} radii count, expected at least 1 and 2; is theta {} right "
          "for these weights?",
          counts.mass.size(), counts.radii.size(), o.theta);
  std::sort(counts.mass.begin(), counts.mass.end());
  const auto nodes = std::ssize(counts.mass), radii = std::ssize(counts.radii);
  const int64_t steps = o.q_steps, qs = 2 * steps + 1, chunks = (nodes + kChunk - 1) / kChunk;
  const double dq = o.q_max / static_cast<double>(steps);
  // partial[chunk][q][radius]: sums of (N / N at the last radius)^q.
  std::vector<std::vector<double>> partial(static_cast<size_t>(chunks));
  threads.parallel_for(chunks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t chunk = begin; chunk < end; ++chunk) {
      auto& sums = partial[static_cast<size_t>(chunk)];
      sums.assign(static_cast<size_t>(qs * radii), 0);
      const auto row = [&](int64_t q) { return sums.data() + q * radii; };
      // All radii of one q at a time: the compiler makes vectors of the loops.
      std::vector<double> up(static_cast<size_t>(radii)), down(up), rising(up), falling(up);
      for (int64_t n = chunk * kChunk; n < std::min(nodes, (chunk + 1) * kChunk); ++n) {
        const auto& mass = counts.mass[static_cast<size_t>(n)];
        for (size_t r = 0; r < up.size(); ++r) {
          up[r] = std::pow(static_cast<double>(mass[r]) / static_cast<double>(mass.back()), dq);
          down[r] = 1 / up[r];
          rising[r] = falling[r] = 1, row(steps)[r] += 1;
        }
        for (int64_t k = 1; k <= steps; ++k) {
          auto *above = row(steps + k), *below = row(steps - k);
          for (size_t r = 0; r < up.size(); ++r) {
            above[r] += rising[r] *= up[r];
            below[r] += falling[r] *= down[r];
          }
        }
      }
    }
  });
  std::vector<double> total(static_cast<size_t>(qs * radii), 0), x, y(static_cast<size_t>(radii));
  for (const auto& part : partial)
    for (size_t i = 0; i < total.size(); ++i) total[i] += part[i];
  for (const double radius : counts.radii) x.push_back(std::log(radius / counts.radii.back()));
  Spectrum out;
  out.nodes = nodes;
  for (int64_t i = 0; i < qs; ++i) {
    out.q.push_back(static_cast<double>(i - steps) * o.q_max / static_cast<double>(steps));
    for (int64_t r = 0; r < radii; ++r)
      y[static_cast<size_t>(r)] = std::log(total[static_cast<size_t>(i * radii + r)]);
    out.tau.push_back(i == steps ? 0 : math::fit_line(x, y).slope);
  }
  for (size_t i = 0; i + 1 < out.q.size(); ++i) {
    out.alpha.push_back((out.tau[i + 1] - out.tau[i]) / (out.q[i + 1] - out.q[i]));
    out.f.push_back(out.q[i] * out.alpha[i] - out.tau[i]);
  }
  // f of 0 and of the step below it are both -tau(0): of equal ones the q nearest 0, not rounding,
  // decides.
  const double most = *std::max_element(out.f.begin(), out.f.end());
  size_t top = out.f.size();
  for (size_t i = 0; i < out.f.size(); ++i)
    if (out.f[i] >= most - 1e-9 &&
        (top == out.f.size() || std::abs(out.q[i]) < std::abs(out.q[top])))
      top = i;
  const auto [low, high] = std::minmax_element(out.alpha.begin(), out.alpha.end());
  out.alpha_0 = out.alpha[top], out.width = *high - *low;
  return out;
}

Spectrum multifractal(const Distances& distances, const MultifractalOptions& options) {
  ThreadPool one(1);
  return multifractal(count_mass(distances, options), options, one);
}

bool Spectrum::rises() const {
  return std::any_of(f.begin(), f.end(), [](double v) { return v > 0; });
}
bool Spectrum::turns() const {
  return *std::max_element(alpha.begin(), alpha.end()) - alpha.front() > 0.01;
}
bool Spectrum::passes(SpectrumFilter filter) const {
  const bool negative = filter == SpectrumFilter::negative || filter == SpectrumFilter::both;
  const bool falling = filter == SpectrumFilter::falling || filter == SpectrumFilter::both;
  return !(negative && rises()) && !(falling && turns());
}

SpectrumMean mean_spectrum(const lm::Transformer& model, int64_t samples,
                           const MultifractalOptions& options, SpectrumFilter filter,
                           const SampleOptions& sampling) {
  require(samples > 0, "mean_spectrum: {} samples, expected at least 1", samples);
  SpectrumMean out;
  std::vector<double> alphas, widths;
  for (int64_t k = 0; k < samples; ++k) {
    auto one = sampling;
    one.seed += static_cast<uint64_t>(k);
    const auto spectrum = multifractal(sample_graph(model, one), options);
    out.rising += spectrum.rises(), out.turning += spectrum.turns();
    if (!spectrum.passes(filter)) continue;
    alphas.push_back(spectrum.alpha_0), widths.push_back(spectrum.width);
  }
  require(!alphas.empty(), "mean_spectrum: none of {} samples passes the filter '{}'", samples,
          to_name(filter));
  out.samples = std::ssize(alphas);
  out.alpha_0 = mean(alphas), out.width = mean(widths);
  out.alpha_0_sd = deviation(alphas, out.alpha_0), out.width_sd = deviation(widths, out.width);
  return out;
}

double emergence(const SpectrumMean& start, const SpectrumMean& now) {
  return now.width / start.width * std::log(start.alpha_0 / now.alpha_0);
}

std::pair<double, double> bootstrap_error(const Distances& distances,
                                          const MultifractalOptions& options, int64_t rounds,
                                          uint64_t seed) {
  std::vector<double> alphas, widths;
  ThreadPool one(1);
  const auto counts = count_mass(distances, options);
  require(!counts.mass.empty(), "bootstrap_error: no node counts");
  Random random(seed);
  for (int64_t round = 0; round < rounds; ++round) {
    MassCounts drawn{counts.radii, {}};
    for (size_t n = 0; n < counts.mass.size(); ++n)
      drawn.mass.push_back(counts.mass[random.below(counts.mass.size())]);
    const auto spectrum = multifractal(std::move(drawn), options, one);
    alphas.push_back(spectrum.alpha_0), widths.push_back(spectrum.width);
  }
  return {deviation(alphas, mean(alphas)), deviation(widths, mean(widths))};
}

std::vector<double> node_dimensions(const Distances& distances, double theta) {
  std::vector<double> out;
  std::vector<int64_t> rounded;
  for (const auto& node : distances) {
    rounded.clear();
    for (const double d : node)
      if (d > 0 && d <= theta) rounded.push_back(std::llrint(d));
    std::vector<double> x, y;
    int64_t mass = 1;
    if (rounded.size() > 10)
      for (const auto& [radius, count] : histogram(rounded)) {
        mass += count;
        if (radius == 0) continue;
        x.push_back(std::log(static_cast<double>(radius)));
        y.push_back(std::log(static_cast<double>(mass)));
      }
    out.push_back(x.size() > 1 ? math::fit_line(x, y).slope : 0);
  }
  return out;
}

Distances planted_graph(const std::vector<double>& dimensions, int64_t nodes_each, int64_t edges,
                        double c, uint64_t seed) {
  Distances out;
  Random random(seed);
  for (const double dimension : dimensions)
    for (int64_t n = 0; n < nodes_each; ++n) {
      auto& node = out.emplace_back();
      for (int64_t e = 0; e < edges; ++e)
        node.push_back(c * std::pow(1 - random.uniform(), 1 / dimension));
    }
  return out;
}

}  // namespace cajal::atlas
