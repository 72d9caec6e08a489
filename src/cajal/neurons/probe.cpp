#include "cajal/neurons/probe.h"

#include <algorithm>
#include <cmath>

#include "cajal/core/options.h"

namespace cajal {
namespace {

using Function = std::function<torch::Tensor(const torch::Tensor&)>;

constexpr double kEnd = 20;
constexpr int64_t kProbePoints = 40'001;  // on [-20, 20]: every 0.001, integers among them

std::vector<double> list(const torch::Tensor& tensor) {
  const auto flat = tensor.detach().to(torch::kDouble).contiguous();
  return {flat.data_ptr<double>(), flat.data_ptr<double>() + flat.numel()};
}

torch::Tensor slope_of(const Function& f, const torch::Tensor& x) {
  auto at = x.detach().clone().requires_grad_(true);
  const auto y = f(at);
  if (!y.requires_grad()) return torch::zeros_like(x);
  const auto slope = torch::autograd::grad({y.sum()}, {at}, {}, c10::nullopt, false, true)[0];
  return slope.defined() ? slope : torch::zeros_like(x);
}

double value(const Function& f, double x) {
  return f(torch::full({1}, x, torch::kDouble)).item<double>();
}

/// The extremum near grid point `at` by thirds; sign +1 finds a minimum.
std::pair<double, double> refine(const Function& f, double at, double step, double sign) {
  double low = std::max(-kEnd, at - step), high = std::min(kEnd, at + step);
  for (int i = 0; i < 60; ++i) {
    const double a = low + (high - low) / 3, b = high - (high - low) / 3;
    (sign * value(f, a) < sign * value(f, b) ? high : low) =
        sign * value(f, a) < sign * value(f, b) ? b : a;
  }
  return {(low + high) / 2, value(f, (low + high) / 2)};
}

/// Jumps of a curve sampled every `step`, which a smooth one of that size would not make.
std::vector<Kink> jumps(const std::vector<double>& x, const std::vector<double>& y, double least) {
  std::vector<Kink> found;
  for (size_t i = 2; i + 2 < y.size(); ++i) {
    const double across = y[i + 1] - y[i - 1];
    const double smooth = std::max(std::abs(y[i - 1] - y[i - 2]), std::abs(y[i + 2] - y[i + 1]));
    if (std::abs(across) < least || std::abs(across) < 8 * smooth) continue;
    if (found.empty() || x[i] - found.back().x > 0.01) found.push_back({x[i], across});
  }
  return found;
}

/// Gaussian quadrature nodes would miss kinks: an even grid over ±8 deviations.
torch::Tensor second_moment(const Function& f, double variance, const torch::Tensor& z,
                            const torch::Tensor& weight) {
  return (f(z * std::sqrt(variance)).square() * weight).sum();
}

}  // namespace

Properties probe(const Function& f) {
  Properties out;
  const auto grid = torch::linspace(-kEnd, kEnd, kProbePoints, torch::kDouble);
  const auto slope_tensor = slope_of(f, grid);
  const torch::NoGradGuard no_grad;
  const auto x = list(grid), y = list(f(grid)), slope = list(slope_tensor);
  const double step = x[1] - x[0];

  const auto low = std::min_element(y.begin(), y.end()) - y.begin();
  const auto high = std::max_element(y.begin(), y.end()) - y.begin();
  std::tie(out.minimum_at, out.minimum) = refine(f, x[low], step, 1);
  std::tie(out.maximum_at, out.maximum) = refine(f, x[high], step, -1);
  const double far[] = {value(f, -2000), value(f, 2000)};
  const double slack = 0.05 + 0.1 * std::abs(out.maximum - out.minimum);
  out.bounded_below = std::min(far[0], far[1]) > out.minimum - slack;
  out.bounded_above = std::max(far[0], far[1]) < out.maximum + slack;

  bool rises = false, falls = false;
  int last = 0;
  for (const double s : slope) {
    const int sign = s > 1e-9 ? 1 : s < -1e-9 ? -1 : 0;
    rises = rises || sign > 0, falls = falls || sign < 0;
    if (sign != 0 && last != 0 && sign != last) ++out.turns;
    if (sign != 0) last = sign;
  }
  out.monotone = !falls ? Monotone::increasing : !rises ? Monotone::decreasing : Monotone::no;

  out.kinks = jumps(x, slope, 1e-3);
  std::vector<double> middle, curvature;
  for (size_t i = 0; i + 1 < x.size(); ++i) {
    middle.push_back((x[i] + x[i + 1]) / 2);
    curvature.push_back((slope[i + 1] - slope[i]) / step);
  }
  for (const auto& bend : jumps(middle, curvature, 1e-2)) {
    const bool kink = std::any_of(out.kinks.begin(), out.kinks.end(),
                                  [&](const Kink& k) { return std::abs(k.x - bend.x) < 0.02; });
    if (!kink) out.bends.push_back(bend);
  }

  double even = 0, odd = 0, size = 1e-12;
  for (size_t i = 0; i < y.size(); ++i) {
    const double mirrored = y[y.size() - 1 - i];
    even = std::max(even, std::abs(y[i] - mirrored)),
    odd = std::max(odd, std::abs(y[i] + mirrored));
    size = std::max(size, std::abs(y[i]));
  }
  out.even = even < 1e-9 * size, out.odd = odd < 1e-9 * size;

  for (const double s : slope) {
    out.saturation += std::abs(s) < 1e-3 ? 1.0 / static_cast<double>(slope.size()) : 0;
    out.lipschitz = std::max(out.lipschitz, std::abs(s));
  }
  const auto z = torch::linspace(-8, 8, 16'001, torch::kDouble);
  auto weight = torch::exp(z.square() * -0.5);
  weight = weight / weight.sum();
  const auto response = f(z);
  out.mean = (response * weight).sum().item<double>();
  const double moment = second_moment(f, 1, z, weight).item<double>();
  out.variance = moment - out.mean * out.mean;
  out.zero_centred = std::abs(out.mean) <= 0.05;
  out.gain = moment > 0 ? 1 / std::sqrt(moment) : 0;
  double q = 0.5;
  for (int depth = 0; depth < 20; ++depth) {
    q = second_moment(f, q, z, weight).item<double>() * out.gain * out.gain;
    out.variance_by_depth.push_back(q);
  }
  return out;
}

std::string smoothness(const Properties& p) {
  return !p.kinks.empty() ? "C0" : !p.bends.empty() ? "C1" : "C2 or more";
}

Json to_json(const Properties& p) {
  const auto places = [](const std::vector<Kink>& kinks) {
    Json array = Json::array();
    for (const auto& kink : kinks) array.push_back({{"x", kink.x}, {"jump", kink.jump}});
    return array;
  };
  return {{"minimum", p.minimum},
          {"minimum_at", p.minimum_at},
          {"maximum", p.maximum},
          {"maximum_at", p.maximum_at},
          {"bounded_below", p.bounded_below},
          {"bounded_above", p.bounded_above},
          {"monotone", p.monotone == Monotone::increasing   ? "increasing"
                       : p.monotone == Monotone::decreasing ? "decreasing"
                                                            : "no"},
          {"turns", p.turns},
          {"smoothness", smoothness(p)},
          {"kinks", places(p.kinks)},
          {"bends", places(p.bends)},
          {"even", p.even},
          {"odd", p.odd},
          {"mean", p.mean},
          {"variance", p.variance},
          {"zero_centred", p.zero_centred},
          {"saturation", p.saturation},
          {"lipschitz", p.lipschitz},
          {"gain", p.gain},
          {"variance_by_depth", p.variance_by_depth}};
}

}  // namespace cajal
