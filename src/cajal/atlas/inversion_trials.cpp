#include "cajal/atlas/inversion_trials.h"

namespace cajal::atlas {

using torch::Tensor;

InversionScore try_inversion(const InversionWorld& world, const Tensor& seen, const Tensor& clean,
                             const Tensor& classes, const InversionOptions& options) {
  std::vector<MapTarget> targets;
  if (options.maps > 0) {
    const auto maps = normalise_units(world.judge.maps(seen), world.judge_statistics);
    for (const auto& p : world.pairs) targets.push_back({p.a, unit_map(maps, p.b)});
  }
  const auto z =
      invert(world.generator, world.statistics, targets, seen, options, world.judge.logits);
  const torch::NoGradGuard no_grad;
  const auto made = world.generator.run(z).first;
  const auto share = [](const Tensor& right) {
    return right.to(torch::kDouble).mean().item<double>();
  };
  return {(made - clean).square().mean().item<double>(),
          structural_similarity(made, clean).mean().item<double>(),
          share(world.judge.logits(made).argmax(-1).eq(classes))};
}

double shift_success(const InversionWorld& world, int64_t images, double right,
                     const InversionOptions& options) {
  if (world.pairs.empty()) return 0;
  const torch::NoGradGuard no_grad;
  const auto z = torch::randn({images, world.generator.latent}) * 0.7;
  const auto [made, raw] = world.generator.run(z);
  const auto maps = normalise_units(raw, world.statistics);
  std::vector<MapTarget> targets;
  for (const auto& p : world.pairs) {
    const auto map = unit_map(maps, p.a);
    const auto scale = static_cast<double>(map.size(2)) / static_cast<double>(made.size(3));
    targets.push_back({p.a, shift_map(map, right * scale, 0)});
  }
  const auto moved = invert(world.generator, world.statistics, targets, {}, options, {}, z);
  const auto way = (centroid(world.generator.run(moved).first) - centroid(made)).select(1, 0);
  return ((way - right).abs() <= 0.25 * std::abs(right)).to(torch::kDouble).mean().item<double>();
}

Tensor edges_of(const Tensor& pictures) {
  const auto change = [&](int64_t axis) { return (pictures - pictures.roll(1, axis)).abs(); };
  return torch::clamp(change(2) + change(3), 0, 1);
}

}  // namespace cajal::atlas
