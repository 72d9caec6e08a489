#pragma once
#include <functional>
#include <string>
#include <vector>

#include "cajal/atlas/rosetta.h"

namespace cajal::atlas {

/// What a model's units show of a set of pictures.
struct UnitViews {
  std::vector<UnitMaps> batches;
  UnitStatistics statistics;
};
/// maps(some) of the inputs [images, ...] in batches of `batch`.
UnitViews view_units(const std::function<UnitMaps(const torch::Tensor& some)>& maps,
                     const torch::Tensor& inputs, int64_t batch = 100);

/// The channels of each layer turned by a random orthogonal matrix: a model that spans the same
/// space, whose axes mean nothing. Draws from libtorch's generator.
UnitViews rotated(const UnitViews& views);

/// All units of two models on the same pictures.
struct UnitMatch {
  torch::Tensor table;         // [units of a, units of b]
  std::vector<UnitPair> best;  // best buddies, best first
  double threshold = 0;        // what best buddies of wrongly paired pictures reach, 99.9 %

  std::vector<UnitPair> above() const;  // the best buddies above it
};
/// Throws Error for views of other numbers of batches.
UnitMatch match_units(const UnitViews& a, const UnitViews& b);

/// Views of models whose common units are known: each unit is one of `shared` smooth fields, which
/// all models see with noise and a gain of their own, or one of `own` fields of that model alone,
/// in a random order; every second model shows them at half the size.
struct PlantedUnits {
  std::vector<UnitViews> models;
  std::vector<std::vector<int64_t>> meaning;  // [model][unit]: which common field, or -1
  torch::Tensor fields;                       // the common ones, [images, shared, 14, 14]
};
PlantedUnits plant_units(int64_t models, int64_t shared, int64_t own, int64_t images);

/// How well pairs of units find what two planted models share.
struct PairQuality {
  double recall = 0, precision = 0;
  int64_t wrong = 0;  // pairs of two private units
};
PairQuality judge_pairs(const std::vector<UnitPair>& pairs, const PlantedUnits& planted, size_t a,
                        size_t b);

/// Pairs by name: each unit is called by the field with which the top hundredth of its map has the
/// largest IoU (at least `least`) with that field's own; units called alike are pairs, the best
/// unit of each name. Network dissection with the true fields as labels.
std::vector<UnitPair> pairs_by_name(const PlantedUnits& planted, size_t a, size_t b,
                                    double least = 0.04);

}  // namespace cajal::atlas
