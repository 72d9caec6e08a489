#pragma once
#include <cstdint>
#include <vector>

#include "cajal/atlas/rosetta.h"
#include "cajal/core/options.h"
#include "cajal/math/quantile_sketch.h"

/// What the units of a vision model look at: for each the pictures that drive it most and the
/// regions of these where it is nearly as active as it ever gets.
/// Source: Hernandez et al. 2022, arXiv 2201.11114; dossier milan, Build 1.
namespace cajal::atlas {

struct ExemplarOptions {
  int64_t top = 15;        // pictures a unit
  double quantile = 0.99;  // of a unit's activation over all positions and pictures: the level
  int64_t bins = 4096;     // of the sketch of each unit's activations
  bool exact = false;      // keep all activations instead of the sketch
};
CAJAL_OPTIONS(ExemplarOptions, top, quantile, bins, exact)

/// Units are numbered through the layers.
struct Exemplars {
  torch::Tensor pictures;  // i64 [units, top], the highest first; equal ones by their number
  torch::Tensor scores;    // f32 [units, top], the largest activation in each
  torch::Tensor levels;    // f32 [units]
  UnitMaps maps;           // of each layer [channels, top, height, width], of those pictures
};

/// Gathers exemplars in one pass over batches of maps; memory O(units x top) maps and one sketch a
/// unit. Channels that never exceed their level are dead and get empty masks.
class ExemplarPass {
 public:
  explicit ExemplarPass(const ExemplarOptions& options = {});

  /// Maps [pictures, channels, height, width] of the next pictures, layer by layer.
  /// Throws Error when layers, channels or sizes differ from those of the first batch.
  void add(const UnitMaps& maps);
  /// Throws Error when there were fewer pictures than `top`.
  Exemplars finish() const;

 private:
  struct LayerState {
    torch::Tensor scores, pictures, maps;  // [channels, up to top, ...]
    std::vector<math::QuantileSketch> sketches;
  };
  void add(LayerState& layer, const torch::Tensor& maps) const;

  ExemplarOptions options_;
  std::vector<LayerState> layers_;
  int64_t seen_ = 0;
};

/// The same from the maps of all pictures at once: a full sort and the exact quantile, linear
/// between the nearest values. The oracle of ExemplarPass.
Exemplars naive_exemplars(const UnitMaps& maps, const ExemplarOptions& options);

/// Where the bilinearly upsampled activation exceeds the unit's level, bool [units, top, size,
/// size].
torch::Tensor exemplar_masks(const Exemplars& exemplars, int64_t size);

/// The same for all pictures of a batch, one layer: maps [pictures, channels, h, w], levels
/// [channels] -> bool [pictures, channels, size, size].
torch::Tensor unit_masks(const torch::Tensor& maps, const torch::Tensor& levels, int64_t size);

/// Σ over pixels of features weighted by the mask, resized bilinearly to their size and scaled to
/// sum 1 (an empty mask gives zeros), for each level of a pyramid, joined: levels [n, channels, h,
/// w], mask f32 [n, size, size] -> [n, Σ channels]. Source: dossier milan, Build 2.
torch::Tensor pool_under_masks(const UnitMaps& levels, const torch::Tensor& masks);

}  // namespace cajal::atlas
