#pragma once
#include "cajal/atlas/rosetta.h"

namespace cajal::atlas {

/// A generator as the search needs it: latents [images, latent] -> pictures [images, 1, h, w] in
/// [0, 1], and the maps of its units.
struct Generator {
  std::function<std::pair<torch::Tensor, UnitMaps>(const torch::Tensor& latents)> run;
  int64_t latent = 0;
};

/// Unit a of the generator should look like map b: the pair's units by number.
struct MapTarget {
  int64_t unit;
  torch::Tensor map;  // [images, h, w], normalised
};

struct InversionOptions {
  double maps = 1;           // weight of -mean correlation over the targets
  double pixels = 0;         // of the mean squared difference to `picture`
  double features = 0;       // of the mean squared difference of `features_of`
  double regularise = 1e-3;  // of the mean square of the latents
  bool centre = false;       // correlation with each map's own mean removed
  int64_t steps = 1000;
  int64_t warm_up = 0;  // steps before pixels and features count
  double learning_rate = 0.01, beta1 = 0.5, beta2 = 0.999;
  uint64_t seed = 0;  // of the start: normal numbers cut off at two deviations
};

/// Latents whose picture's maps correlate with the targets and, by weight, whose pixels and
/// features fit. `start` defined: the search begins there. Returns [images, latent].
/// Source: dossier rosetta-neurons, Build 6.
torch::Tensor invert(const Generator& generator, const UnitStatistics& statistics,
                     const std::vector<MapTarget>& targets, const torch::Tensor& picture,
                     const InversionOptions& options,
                     const std::function<torch::Tensor(const torch::Tensor&)>& features_of = {},
                     const torch::Tensor& start = {});

/// A unit's map of every image, [images, h, w].
torch::Tensor unit_map(const UnitMaps& maps, int64_t unit);

/// Edits of maps [images, h, w]; what leaves the frame is lost, what enters is the map's least.
torch::Tensor shift_map(const torch::Tensor& map, double right, double down);  // pixels of the map
torch::Tensor zoom_map(const torch::Tensor& map, double factor);               // about the centre

/// Centre of mass of pictures [images, 1, h, w]: [images, 2] (right, down) in pixels.
torch::Tensor centroid(const torch::Tensor& pictures);

/// Structural similarity of pictures in [0, 1], mean over windows of 7 x 7; [images].
/// Source: Wang et al. 2004.
torch::Tensor structural_similarity(const torch::Tensor& a, const torch::Tensor& b);

}  // namespace cajal::atlas
