#include "cajal/atlas/unit_views.h"

#include <algorithm>

#include "cajal/core/error.h"

namespace cajal::atlas {
namespace {

using torch::Tensor;

constexpr int64_t kSide = 14;  // of planted fields
// Right pairing first; pictures that null pairings are off by.
const std::vector<int64_t> kShifts = {0, 1, 7, 23, 41};

UnitStatistics statistics_of(const std::vector<UnitMaps>& batches) {
  UnitStatisticsPass pass;
  for (const auto& some : batches) pass.add(some);
  return pass.finish();
}

/// Smooth fields, new for every picture.
Tensor fields(int64_t images, int64_t channels) {
  return at::upsample_bilinear2d(torch::randn({images, channels, 5, 5}), {kSide, kSide}, false);
}

/// The top hundredth of each channel over all pictures, as 0 and 1: [channels, images x pixels].
Tensor top_hundredth(const Tensor& maps) {
  const auto flat = at::upsample_bilinear2d(maps, {kSide, kSide}, false).transpose(0, 1).flatten(1);
  const auto level = std::get<0>(flat.topk(std::max<int64_t>(1, flat.size(1) / 100), 1));
  return flat.ge(level.slice(1, -1)).to(torch::kFloat);
}

}  // namespace

UnitViews view_units(const std::function<UnitMaps(const Tensor&)>& maps, const Tensor& inputs,
                     int64_t batch) {
  const torch::NoGradGuard no_grad;
  UnitViews out;
  for (const auto& some : inputs.split(batch)) out.batches.push_back(maps(some));
  out.statistics = statistics_of(out.batches);
  return out;
}

UnitViews rotated(const UnitViews& views) {
  const torch::NoGradGuard no_grad;
  UnitViews out = views;
  for (size_t layer = 0; layer < views.statistics.mean.size(); ++layer) {
    const auto n = views.statistics.mean[layer].size(0);
    const auto turn = std::get<0>(torch::linalg_qr(torch::randn({n, n})));
    for (auto& batch : out.batches)
      batch[layer] = torch::einsum("oc,bchw->bohw", {turn, batch[layer]}).contiguous();
  }
  out.statistics = statistics_of(out.batches);
  return out;
}

std::vector<UnitPair> UnitMatch::above() const {
  auto out = best;
  std::erase_if(out, [&](const UnitPair& p) { return p.score <= threshold; });
  return out;
}

UnitMatch match_units(const UnitViews& a, const UnitViews& b) {
  require(a.batches.size() == b.batches.size(), "match_units: views of {} and {} batches",
          a.batches.size(), b.batches.size());
  UnitMatcher matcher(a.statistics, b.statistics, Pooling::exact, kShifts);
  for (size_t i = 0; i < a.batches.size(); ++i) matcher.add(a.batches[i], b.batches[i]);
  UnitMatch out{matcher.table(), {}, 0};
  out.best = mutual_best(out.table);
  std::vector<Tensor> null;
  for (size_t s = 1; s < kShifts.size(); ++s) null.push_back(matcher.table(s));
  out.threshold = null_threshold(null);
  return out;
}

PlantedUnits plant_units(int64_t models, int64_t shared, int64_t own, int64_t images) {
  require(models > 0 && shared > 0 && own >= 0 && images > 1,
          "plant_units: {} models, {} shared and {} own units, {} images", models, shared, own,
          images);
  PlantedUnits out;
  out.fields = fields(images, shared);
  for (int64_t m = 0; m < models; ++m) {
    const auto seen =
        out.fields * (0.5 + torch::rand({1, shared, 1, 1})) + 0.3 * torch::randn_like(out.fields);
    const auto order = torch::randperm(shared + own);
    auto units = torch::cat({seen, fields(images, own)}, 1).index_select(1, order);
    if (m % 2 == 1) units = at::avg_pool2d(units, {2, 2});
    out.models.push_back(view_units([](const Tensor& some) { return UnitMaps{some}; }, units, 50));
    auto& meaning = out.meaning.emplace_back();
    for (int64_t u = 0; u < shared + own; ++u) {
      const auto field = order[u].item<int64_t>();
      meaning.push_back(field < shared ? field : -1);
    }
  }
  return out;
}

PairQuality judge_pairs(const std::vector<UnitPair>& pairs, const PlantedUnits& planted, size_t a,
                        size_t b) {
  PairQuality out;
  double right = 0;
  for (const auto& pair : pairs) {
    const auto x = planted.meaning.at(a).at(static_cast<size_t>(pair.a)),
               y = planted.meaning.at(b).at(static_cast<size_t>(pair.b));
    right += x >= 0 && x == y, out.wrong += x < 0 && y < 0;
  }
  out.recall = right / static_cast<double>(planted.fields.size(1));
  out.precision = pairs.empty() ? 0 : right / static_cast<double>(pairs.size());
  return out;
}

std::vector<UnitPair> pairs_by_name(const PlantedUnits& planted, size_t a, size_t b, double least) {
  const auto names = top_hundredth(planted.fields);
  struct Named {
    int64_t unit = -1;
    double iou = 0;
  };
  const auto name_units = [&](const UnitViews& views) {
    std::vector<Tensor> maps;
    for (const auto& batch : views.batches) maps.push_back(batch.at(0));
    const auto masks = top_hundredth(torch::cat(maps));
    const auto both = torch::mm(masks, names.t());
    const auto iou = both / (masks.sum(1, true) + names.sum(1).unsqueeze(0) - both);
    const auto [best, field] = iou.max(1);
    std::vector<Named> out(static_cast<size_t>(names.size(0)));
    for (int64_t u = 0; u < iou.size(0); ++u) {
      auto& holder = out[static_cast<size_t>(field[u].item<int64_t>())];
      const auto score = best[u].item<double>();
      if (score >= least && score > holder.iou) holder = {u, score};
    }
    return out;
  };
  const auto x = name_units(planted.models.at(a)), y = name_units(planted.models.at(b));
  std::vector<UnitPair> out;
  for (size_t f = 0; f < x.size(); ++f)
    if (x[f].unit >= 0 && y[f].unit >= 0)
      out.push_back({x[f].unit, y[f].unit, std::min(x[f].iou, y[f].iou)});
  return out;
}

}  // namespace cajal::atlas
