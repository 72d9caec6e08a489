#include "cajal/data/curves.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "cajal/core/error.h"
#include "cajal/core/random.h"

namespace cajal::data {
namespace {

/// Lower Cholesky factor of the Matérn 5/2 covariance on evenly spaced points of [0, 1].
std::vector<double> matern_factor(int64_t n, double length) {
  std::vector<double> l(static_cast<size_t>(n * n), 0);
  const auto at = [&](int64_t i, int64_t j) -> double& {
    return l[static_cast<size_t>(i * n + j)];
  };
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = 0; j <= i; ++j) {
      const double d =
          std::sqrt(5.0) * static_cast<double>(i - j) / static_cast<double>(n - 1) / length;
      double sum = (1 + d + d * d / 3) * std::exp(-d) + (i == j ? 1e-6 : 0);
      for (int64_t k = 0; k < j; ++k) sum -= at(i, k) * at(j, k);
      at(i, j) = i == j ? std::sqrt(std::max(sum, 1e-12)) : sum / at(j, j);
    }
  return l;
}

/// The four shapes over u = (t - place) / width, before they are scaled to unit energy.
double shape(int64_t kind, double u) {
  const double g = std::exp(-u * u / 2);
  switch (kind) {
    case 0:
      return g;
    case 1:
      return -u * g;
    case 2:
      return (1 - u * u) * g;
    default:
      return std::exp(-(u - 1.5) * (u - 1.5) / 2) + std::exp(-(u + 1.5) * (u + 1.5) / 2);
  }
}

/// Integral of shape² over u.
double shape_energy(int64_t kind) {
  double sum = 0;
  for (double u = -12; u < 12; u += 0.01) sum += 0.01 * shape(kind, u) * shape(kind, u);
  return sum;
}

}  // namespace

Curves shifted_bumps(int64_t count, const BumpOptions& o, uint64_t seed) {
  require(count > 0 && o.points >= 8 && o.points <= 2048,
          "shifted_bumps: {} curves of {} points, expected 8 to 2048 points", count, o.points);
  require(o.width > 0 && o.length > 0, "shifted_bumps: width {} and length {} must be positive",
          o.width, o.length);
  const auto factor = matern_factor(o.points, o.length);
  std::array<double, 4> energy{};
  for (int64_t k = 0; k < 4; ++k) energy[static_cast<size_t>(k)] = shape_energy(k);
  Random places(seed, 1), noise(seed, 2);
  Curves out{.points = o.points, .channels = 1, .classes = 4, .values = {}, .labels = {}};
  std::vector<double> z(static_cast<size_t>(o.points));
  for (int64_t n = 0; n < count; ++n) {
    const auto kind = static_cast<int64_t>(places.below(4));
    const double anywhere = 0.12 + 0.76 * places.uniform();
    const double place = (o.centred ? 0.5 : anywhere) + o.shift;
    // Unit energy of the bump over the unit interval, times signal.
    const double size = o.signal / std::sqrt(energy[static_cast<size_t>(kind)] * o.width);
    out.labels.push_back(kind);
    for (auto& value : z) value = noise.normal();
    for (int64_t i = 0; i < o.points; ++i) {
      double value = 0;
      for (int64_t k = 0; k <= i; ++k)
        value += factor[static_cast<size_t>(i * o.points + k)] * z[static_cast<size_t>(k)];
      const double t = static_cast<double>(i) / static_cast<double>(o.points - 1);
      out.values.push_back(
          static_cast<float>(o.noise * value + size * shape(kind, (t - place) / o.width)));
    }
  }
  return out;
}

Curves brain_waves(int64_t count, const BrainWaveOptions& o, uint64_t seed) {
  require(
      count > 0 && o.points >= 16 && o.points <= 8192 && o.channels >= 6 && o.channels <= 64,
      "brain_waves: {} trials of {} points on {} channels, expected 16 to 8192 points on 6 to 64",
      count, o.points, o.channels);
  require(o.rate > 20, "brain_waves: {} samples a second cannot carry 10 Hz", o.rate);
  Random mixing(4242, 3), random(seed, 4);
  const auto c = static_cast<size_t>(o.channels);
  std::vector<double> mix(c * c);
  for (size_t i = 0; i < mix.size(); ++i)
    mix[i] = mixing.normal() * 0.4 / std::sqrt(o.channels) + (i % (c + 1) == 0 ? 1 : 0);
  const double duration = static_cast<double>(o.points) / o.rate;
  const double size = std::pow(10, o.decibel / 20);
  Curves out{.points = o.points, .channels = o.channels, .classes = 3, .values = {}, .labels = {}};
  for (int64_t n = 0; n < count; ++n) {
    const auto kind = static_cast<int64_t>(random.below(3));
    out.labels.push_back(kind);
    // 1/f noise as a sum of octaves that are held for 1, 2, 4, ... samples.
    std::vector<double> pink(c * static_cast<size_t>(o.points), 0);
    for (size_t channel = 0; channel < c; ++channel)
      for (int64_t held = 1; held <= o.points; held *= 2) {
        double value = 0;
        for (int64_t t = 0; t < o.points; ++t) {
          if (t % held == 0) value = random.normal();
          pink[channel * static_cast<size_t>(o.points) + static_cast<size_t>(t)] += value / 3;
        }
      }
    const double latency = 0.2 + (std::min(1.4, duration - 0.3) - 0.2) * random.uniform();
    const double phase = 2 * M_PI * random.uniform();
    for (int64_t t = 0; t < o.points; ++t) {
      const double seconds = static_cast<double>(t) / o.rate, apart = seconds - latency;
      const double wave = 2 * std::exp(-apart * apart / (2 * 0.04 * 0.04));  // 80 ms
      const double burst =
          std::exp(-apart * apart / (2 * 0.15 * 0.15)) * std::sin(2 * M_PI * 10 * seconds + phase);
      for (size_t channel = 0; channel < c; ++channel) {
        double value = 0;
        for (size_t from = 0; from < c; ++from)
          value += mix[channel * c + from] *
                   pink[from * static_cast<size_t>(o.points) + static_cast<size_t>(t)];
        if (kind == 0 && channel >= 3 && channel <= 5) value += size * wave;
        if (kind == 1) value += size * burst;
        out.values.push_back(static_cast<float>(value));
      }
    }
  }
  return out;
}

}  // namespace cajal::data
