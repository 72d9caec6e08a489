#include "cajal/atlas/inversion.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <tuple>

#include "cajal/core/error.h"
#include "cajal/core/random.h"

namespace cajal::atlas {
namespace {

torch::Tensor as_pictures(const torch::Tensor& map) { return map.unsqueeze(1); }

// The layer of a unit, and its channel there.
std::pair<size_t, int64_t> layer_of(const UnitMaps& maps, int64_t unit) {
  int64_t channel = unit;
  for (size_t layer = 0; layer < maps.size(); ++layer) {
    if (channel >= 0 && channel < maps[layer].size(1)) return {layer, channel};
    channel -= maps[layer].size(1);
  }
  fail("unit maps: there is no unit {}", unit);
}

torch::Tensor centred(const torch::Tensor& maps, bool centre) {
  return centre ? maps - maps.mean(-1, true) : maps;
}

// Targets that are units of one layer and are compared at one size.
struct TargetGroup {
  size_t layer;
  torch::Tensor channels, mean, deviation;  // of the units; the last two [units, 1, 1]
  torch::Tensor wanted;                     // [images, units, pixels]
  int64_t height, width;

  // Σ over units and images of the correlation.
  torch::Tensor agreement(const UnitMaps& raw, bool centre) const {
    auto maps = (raw[layer].index_select(1, channels) - mean) / (deviation + 1e-5);
    if (maps.size(2) != height || maps.size(3) != width)
      maps = at::upsample_bilinear2d(maps, {height, width}, false);
    const auto a = centred(maps.flatten(2), centre);
    const auto size = (a.square().sum(2) * wanted.square().sum(2)).clamp_min(1e-12).sqrt();
    return ((a * wanted).sum(2) / size).sum();
  }
};

std::vector<TargetGroup> groups_of(const std::vector<MapTarget>& targets, const UnitMaps& raw,
                                   const UnitStatistics& statistics, bool centre) {
  struct Members {
    std::vector<int64_t> channels;
    std::vector<torch::Tensor> maps;
  };
  std::map<std::tuple<size_t, int64_t, int64_t>, Members> found;
  for (const auto& [unit, map] : targets) {
    const auto [layer, channel] = layer_of(raw, unit);
    const int64_t height = std::max(raw[layer].size(2), map.size(1)),
                  width = std::max(raw[layer].size(3), map.size(2));
    auto& members = found[{layer, height, width}];
    members.channels.push_back(channel);
    members.maps.push_back(at::upsample_bilinear2d(as_pictures(map), {height, width}, false));
  }
  std::vector<TargetGroup> out;
  for (const auto& [where, members] : found) {
    const auto [layer, height, width] = where;
    const auto channels = torch::tensor(members.channels, torch::kLong);
    const auto of = [&, layer = layer](const std::vector<torch::Tensor>& all) {
      return all.at(layer).index_select(0, channels).to(raw[layer].scalar_type()).view({-1, 1, 1});
    };
    out.push_back({layer, channels, of(statistics.mean), of(statistics.deviation),
                   centred(torch::cat(members.maps, 1).flatten(2), centre), height, width});
  }
  return out;
}

torch::Tensor truncated_normal(int64_t rows, int64_t columns, uint64_t seed) {
  Random random(seed, 31);
  std::vector<float> values(static_cast<size_t>(rows * columns));
  for (auto& v : values) {
    double x = random.normal();
    while (std::abs(x) > 2) x = random.normal();
    v = static_cast<float>(x);
  }
  return torch::tensor(values).reshape({rows, columns});
}

// Pictures seen through a linear map of the plane.
torch::Tensor warp(const torch::Tensor& map, double scale, double right, double down) {
  const auto height = static_cast<double>(map.size(1)), width = static_cast<double>(map.size(2));
  const auto theta = torch::tensor({scale, 0.0, -2 * right / width, 0.0, scale, -2 * down / height})
                         .to(map.scalar_type())
                         .reshape({1, 2, 3})
                         .expand({map.size(0), 2, 3});
  const auto least = map.amin(torch::IntArrayRef({1, 2}), true);
  const auto grid =
      at::affine_grid_generator(theta, {map.size(0), 1, map.size(1), map.size(2)}, false);
  const auto moved = at::grid_sampler(as_pictures(map - least), grid, 0, 0, false);
  return moved.squeeze(1) + least;
}

}  // namespace

torch::Tensor unit_map(const UnitMaps& maps, int64_t unit) {
  const auto [layer, channel] = layer_of(maps, unit);
  return maps[layer].select(1, channel);
}

torch::Tensor invert(const Generator& generator, const UnitStatistics& statistics,
                     const std::vector<MapTarget>& targets, const torch::Tensor& picture,
                     const InversionOptions& o,
                     const std::function<torch::Tensor(const torch::Tensor&)>& features_of,
                     const torch::Tensor& start) {
  require(o.steps > 0 && o.learning_rate > 0, "invert: {} steps at rate {}, expected both positive",
          o.steps, o.learning_rate);
  require(o.features == 0 || features_of, "invert: a weight on features, but no features");
  const int64_t images = targets.empty() ? picture.size(0) : targets[0].map.size(0);
  const torch::AutoGradMode gradient_on(true);
  auto z = (start.defined() ? start.detach().clone()
                            : truncated_normal(images, generator.latent, o.seed))
               .requires_grad_();
  torch::Tensor wanted;
  if (o.features > 0) wanted = features_of(picture).detach();
  std::vector<TargetGroup> groups;
  auto first = torch::zeros_like(z), second = torch::zeros_like(z);
  for (int64_t step = 1; step <= o.steps; ++step) {
    const auto [made, raw] = generator.run(z);
    // Sums over images: each is its own search.
    auto loss = o.regularise * z.square().mean(1).sum();
    if (!targets.empty() && o.maps > 0) {
      if (groups.empty()) groups = groups_of(targets, raw, statistics, o.centre);
      for (const auto& group : groups)
        loss = loss - o.maps / static_cast<double>(targets.size()) * group.agreement(raw, o.centre);
    }
    if (step > o.warm_up && o.pixels > 0)
      loss = loss + o.pixels * (made - picture).square().flatten(1).mean(1).sum();
    if (step > o.warm_up && o.features > 0)
      loss = loss + o.features * (features_of(made) - wanted).square().flatten(1).mean(1).sum();
    const auto slope = torch::autograd::grad({loss}, {z})[0];
    const torch::NoGradGuard no_grad;
    first.mul_(o.beta1).add_(slope, 1 - o.beta1);
    second.mul_(o.beta2).addcmul_(slope, slope, 1 - o.beta2);
    const auto t = static_cast<double>(step);
    z.sub_(o.learning_rate * (first / (1 - std::pow(o.beta1, t))) /
           ((second / (1 - std::pow(o.beta2, t))).sqrt() + 1e-8));
  }
  return z.detach();
}

torch::Tensor shift_map(const torch::Tensor& map, double right, double down) {
  return warp(map, 1, right, down);
}

torch::Tensor zoom_map(const torch::Tensor& map, double factor) {
  require(factor > 0, "zoom_map: factor is {}, expected more than 0", factor);
  return warp(map, 1 / factor, 0, 0);
}

torch::Tensor centroid(const torch::Tensor& pictures) {
  const auto x = torch::arange(pictures.size(3), pictures.options());
  const auto y = torch::arange(pictures.size(2), pictures.options());
  const auto mass = pictures.sum(torch::IntArrayRef({1, 2, 3})).clamp_min(1e-12);
  return torch::stack({(pictures.sum(torch::IntArrayRef({1, 2})) * x).sum(1) / mass,
                       (pictures.sum(torch::IntArrayRef({1, 3})) * y).sum(1) / mass},
                      1);
}

torch::Tensor structural_similarity(const torch::Tensor& a, const torch::Tensor& b) {
  const auto mean = [](const torch::Tensor& t) { return at::avg_pool2d(t, {7, 7}, {1, 1}); };
  const auto ma = mean(a), mb = mean(b);
  const auto va = mean(a * a) - ma * ma, vb = mean(b * b) - mb * mb, vab = mean(a * b) - ma * mb;
  const double c1 = 0.01 * 0.01, c2 = 0.03 * 0.03;
  return ((2 * ma * mb + c1) * (2 * vab + c2) / ((ma * ma + mb * mb + c1) * (va + vb + c2)))
      .flatten(1)
      .mean(1);
}

}  // namespace cajal::atlas
