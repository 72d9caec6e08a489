#pragma once
#include <vector>

#include "cajal/atlas/vision_zoo.h"

namespace cajal::atlas {

/// A generator, a classifier, and units that both have: what pictures are inverted with.
struct InversionWorld {
  Generator generator;
  UnitStatistics statistics = {};  // of the generator's units
  ZooModel judge = {};
  UnitStatistics judge_statistics = {};
  std::vector<UnitPair> pairs = {};  // (unit of the generator, unit of the judge)
};

struct InversionScore {
  double mse = 0, ssim = 0;  // of what the generator draws against the clean pictures
  double agreement = 0;      // share that the judge puts in its class
};

/// Inverts `seen` [images, 1, 28, 28] by the judge's maps of it, its pixels and the judge's logits,
/// each by its weight, and compares what is drawn with `clean` and the classes i64 [images].
InversionScore try_inversion(const InversionWorld& world, const torch::Tensor& seen,
                             const torch::Tensor& clean, const torch::Tensor& classes,
                             const InversionOptions& options);

/// Share of `images` random pictures whose centre of mass moves by `right` pixels ± 25 % when the
/// maps of their units are moved by as much. Draws from libtorch's generator; 0 without pairs.
double shift_success(const InversionWorld& world, int64_t images, double right,
                     const InversionOptions& options);

/// Sum of the absolute differences to the left and upper neighbour, at most 1.
torch::Tensor edges_of(const torch::Tensor& pictures);

}  // namespace cajal::atlas
