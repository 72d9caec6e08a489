#include "cajal/atlas/exemplars.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>

#include "cajal/core/error.h"

namespace cajal::atlas {

using torch::Tensor;

ExemplarPass::ExemplarPass(const ExemplarOptions& o) : options_(o) {
  require(o.top > 0, "exemplars: top is {}, expected a positive number", o.top);
  require(o.quantile >= 0 && o.quantile <= 1, "exemplars: quantile is {}, expected 0 to 1",
          o.quantile);
}

void ExemplarPass::add(LayerState& layer, const Tensor& given) const {
  const auto x = given.detach().to(torch::kCPU, torch::kFloat);
  const int64_t n = x.size(0), channels = x.size(1);
  const auto mine = x.transpose(0, 1).contiguous();  // [channels, pictures, height, width]
  at::parallel_for(0, channels, 1, [&](int64_t begin, int64_t end) {
    const int64_t count = n * x.size(2) * x.size(3);
    for (int64_t c = begin; c < end; ++c)
      layer.sketches[static_cast<size_t>(c)].add(
          {mine.data_ptr<float>() + c * count, static_cast<size_t>(count)});
  });
  auto scores = mine.flatten(2).amax(2);  // [channels, pictures]
  auto pictures = torch::arange(seen_, seen_ + n, torch::kLong).unsqueeze(0).expand({channels, n});
  const auto keep = std::min(n, options_.top);
  // The best of the batch first: then only 2 x top maps a unit are moved.
  const auto best =
      std::get<1>(torch::sort(scores, /*stable=*/true, 1, /*descending=*/true)).slice(1, 0, keep);
  const auto maps_at = [](const Tensor& maps, const Tensor& rows) {
    return maps.gather(1, rows.unsqueeze(-1).unsqueeze(-1).expand(
                              {rows.size(0), rows.size(1), maps.size(2), maps.size(3)}));
  };
  scores = scores.gather(1, best), pictures = pictures.gather(1, best);
  auto maps = maps_at(mine, best);
  if (layer.scores.defined()) {
    scores = torch::cat({layer.scores, scores}, 1);
    pictures = torch::cat({layer.pictures, pictures}, 1);
    maps = torch::cat({layer.maps, maps}, 1);
    const auto order = std::get<1>(torch::sort(scores, true, 1, true))
                           .slice(1, 0, std::min(options_.top, scores.size(1)));
    scores = scores.gather(1, order), pictures = pictures.gather(1, order);
    maps = maps_at(maps, order);
  }
  layer.scores = scores, layer.pictures = pictures, layer.maps = maps;
}

void ExemplarPass::add(const UnitMaps& maps) {
  require(!maps.empty(), "exemplars: no layers");
  if (layers_.empty()) {
    for (const auto& map : maps) {
      require(map.dim() == 4,
              "exemplars: maps are {}, expected [pictures, channels, height, width]",
              shape_text(map.sizes()));
      layers_.push_back(
          {{},
           {},
           {},
           std::vector<math::QuantileSketch>(static_cast<size_t>(map.size(1)),
                                             math::QuantileSketch(options_.bins, options_.exact))});
    }
  }
  require(maps.size() == layers_.size(), "exemplars: {} layers, {} before", maps.size(),
          layers_.size());
  for (size_t l = 0; l < maps.size(); ++l) {
    require(maps[l].dim() == 4 && maps[l].size(0) == maps[0].size(0) &&
                maps[l].size(1) == std::ssize(layers_[l].sketches) &&
                (!layers_[l].maps.defined() || (maps[l].size(2) == layers_[l].maps.size(2) &&
                                                maps[l].size(3) == layers_[l].maps.size(3))),
            "exemplars: maps of layer {} are {}, unlike those before", l,
            shape_text(maps[l].sizes()));
    add(layers_[l], maps[l]);
  }
  seen_ += maps[0].size(0);
}

Exemplars ExemplarPass::finish() const {
  require(seen_ >= options_.top, "exemplars: {} pictures, expected {} or more", seen_,
          options_.top);
  Exemplars out;
  std::vector<Tensor> pictures, scores;
  std::vector<float> levels;
  for (const auto& layer : layers_) {
    pictures.push_back(layer.pictures), scores.push_back(layer.scores);
    out.maps.push_back(layer.maps);
    for (const auto& sketch : layer.sketches)
      levels.push_back(static_cast<float>(sketch.quantile(options_.quantile)));
  }
  out.pictures = torch::cat(pictures), out.scores = torch::cat(scores);
  out.levels = torch::tensor(levels);
  return out;
}

Exemplars naive_exemplars(const UnitMaps& maps, const ExemplarOptions& o) {
  Exemplars out;
  std::vector<Tensor> pictures, scores;
  std::vector<float> levels;
  for (const auto& layer : maps) {
    std::vector<Tensor> chosen;
    for (int64_t c = 0; c < layer.size(1); ++c) {
      const auto mine = layer.select(1, c);
      const auto best = mine.flatten(1).amax(1);
      const auto order = std::get<1>(torch::sort(best, true, 0, true)).slice(0, 0, o.top);
      pictures.push_back(order), scores.push_back(best.index_select(0, order));
      chosen.push_back(mine.index_select(0, order));
      const auto sorted = std::get<0>(mine.flatten().sort()).to(torch::kDouble);
      const double place = o.quantile * static_cast<double>(sorted.size(0) - 1);
      const auto at = [&](double i) { return sorted[static_cast<int64_t>(i)].item<double>(); };
      const double low = at(std::floor(place)), high = at(std::ceil(place));
      levels.push_back(static_cast<float>(low + (place - std::floor(place)) * (high - low)));
    }
    out.maps.push_back(torch::stack(chosen));
  }
  out.pictures = torch::stack(pictures), out.scores = torch::stack(scores);
  out.levels = torch::tensor(levels);
  return out;
}

Tensor unit_masks(const Tensor& maps, const Tensor& levels, int64_t size) {
  return at::upsample_bilinear2d(maps, {size, size}, false) > levels.view({1, -1, 1, 1});
}

Tensor exemplar_masks(const Exemplars& exemplars, int64_t size) {
  require(size > 0, "exemplars: masks of {} pixels", size);
  std::vector<Tensor> out;
  int64_t unit = 0;
  for (const auto& maps : exemplars.maps) {
    const auto levels = exemplars.levels.slice(0, unit, unit + maps.size(0));
    out.push_back(unit_masks(maps.transpose(0, 1).contiguous(), levels, size).transpose(0, 1));
    unit += maps.size(0);
  }
  return torch::cat(out);
}

Tensor pool_under_masks(const UnitMaps& levels, const Tensor& masks) {
  std::vector<Tensor> out;
  for (const auto& x : levels) {
    require(x.dim() == 4 && masks.dim() == 3 && x.size(0) == masks.size(0),
            "pool under masks: features {} and masks {}", shape_text(x.sizes()),
            shape_text(masks.sizes()));
    const auto m =
        at::upsample_bilinear2d(masks.unsqueeze(1), {x.size(2), x.size(3)}, false).flatten(1);
    const auto sum = m.sum(1, true);
    const auto weight = torch::where(sum > 0, m / sum.clamp_min(1e-12), torch::zeros_like(m));
    out.push_back(torch::bmm(x.flatten(2), weight.unsqueeze(-1)).squeeze(-1));
  }
  return torch::cat(out, 1);
}

}  // namespace cajal::atlas
