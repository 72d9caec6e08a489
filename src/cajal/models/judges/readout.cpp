#include <cmath>
#include <map>

#include "cajal/core/error.h"
#include "cajal/models/judges/network.h"

namespace cajal::judges {
namespace {

Verdict verdict_of(double difference, double band) {
  if (std::fabs(difference) <= band) return Verdict::tie;
  return difference > 0 ? Verdict::first : Verdict::second;
}

double weighted(const std::vector<double>& x, const std::vector<double>& weights) {
  require(weights.size() == x.size() + 1,
          "judges: {} weights for {} neurons, expected one each and a bias", weights.size(),
          x.size());
  double sum = weights.back();
  for (size_t i = 0; i < x.size(); ++i) sum += weights[i] * x[i];
  return sum;
}

}  // namespace

void read_out(const Network& network, Trace& trace) {
  const auto last = static_cast<int64_t>(network.layers.size());
  double count = 0, votes = 0;
  trace.score1 = trace.score2 = 0;
  for (const auto& r : trace.reviews) {
    if (!r.readable || (network.readout == Readout::last_layer && r.layer != last)) continue;
    trace.score1 += r.score1, trace.score2 += r.score2;
    votes += (r.score1 > r.score2) - (r.score1 < r.score2);
    ++count;
  }
  if (count > 0) trace.score1 /= count, trace.score2 /= count;
  switch (network.readout) {
    case Readout::majority:
      trace.verdict = verdict_of(votes, 0);
      break;
    case Readout::learned:
      trace.verdict = verdict_of(weighted(differences(trace), network.weights), network.tie_band);
      break;
    default:
      trace.verdict = verdict_of(trace.score1 - trace.score2, network.tie_band);
  }
}

std::vector<double> differences(const Trace& trace) {
  std::map<std::pair<int64_t, int64_t>, std::pair<double, double>> sums;  // sum and count
  for (const auto& r : trace.reviews) {
    auto& [sum, count] = sums[{r.layer, r.neuron}];
    if (r.readable) sum += r.score1 - r.score2, count += 1;
  }
  std::vector<double> out;
  for (const auto& [place, of] : sums) out.push_back(of.second > 0 ? of.first / of.second : 0);
  return out;
}

std::vector<double> fit_weights(std::span<const Pair> pairs, std::span<const Trace> traces,
                                double ridge) {
  require(pairs.size() == traces.size() && !pairs.empty(), "judges: {} pairs and {} traces",
          pairs.size(), traces.size());
  std::vector<std::vector<double>> x;
  std::vector<double> y;
  for (size_t i = 0; i < pairs.size(); ++i) {
    if (pairs[i].human == Verdict::tie) continue;
    x.push_back(differences(traces[i]));
    require(x.back().size() == x.front().size(), "judges: traces of {} and {} neurons",
            x.front().size(), x.back().size());
    y.push_back(pairs[i].human == Verdict::first);
  }
  require(!x.empty(), "judges: only ties to fit weights to");
  // Plain gradient descent with a step below 1 / (largest curvature).
  const size_t n = x.front().size();
  double curvature = 0;
  for (const auto& row : x) {
    double square = 1;
    for (const double v : row) square += v * v;
    curvature += square / 4;
  }
  const double step = 1 / (curvature + ridge);
  std::vector<double> weights(n + 1);
  for (int t = 0; t < 3000; ++t) {
    std::vector<double> slope(n + 1);
    for (size_t r = 0; r < x.size(); ++r) {
      const double error = 1 / (1 + std::exp(-weighted(x[r], weights))) - y[r];
      for (size_t i = 0; i < n; ++i) slope[i] += error * x[r][i];
      slope[n] += error;
    }
    for (size_t i = 0; i < n; ++i) slope[i] += ridge * weights[i];
    for (size_t i = 0; i <= n; ++i) weights[i] -= step * slope[i];
  }
  return weights;
}

}  // namespace cajal::judges
