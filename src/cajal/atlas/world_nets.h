#pragma once
#include <functional>
#include <string>
#include <vector>

#include "cajal/atlas/rosetta.h"
#include "cajal/core/options.h"
#include "cajal/data/shape_world.h"

/// Small networks that look at the world of shapes (data/shape_world.h), and the same networks with
/// units deleted. Source: dossier milan.
namespace cajal::atlas {

/// What a network was trained for; all but the vision transformer are convolutional.
enum class WorldTask {
  shape,    // which shapes are there
  colour,   // which colours
  texture,  // which textures
  all,      // all three: features that describe regions
  first,    // the shape of the first object, one class
  vit,      // as `shape`, a vision transformer: patch 6, width 64, 3 layers of 64 neurons
  autoencoder
};

/// What a deleted unit gives instead of its activation.
enum class DeletionRule { zero, mean };

struct Deletion {
  std::vector<int64_t> units;  // numbered through the layers
  DeletionRule rule = DeletionRule::zero;
  torch::Tensor means = {};  // f32 [units of the network], for `mean`
};

struct WorldNet {
  std::string name;
  std::vector<int64_t> channels;  // units of each layer
  /// Pictures [n, 3, size, size] in [0, 1] -> {output, maps of the units}; no gradients.
  /// Throws Error for units that the network does not have.
  std::function<std::pair<torch::Tensor, UnitMaps>(const torch::Tensor&, const Deletion&)> run;
  int64_t units() const;
};

struct WorldNetOptions {
  int64_t steps = 400;
  int64_t batch = 64;
  double rate = 2e-3;  // of Adam
};
CAJAL_OPTIONS(WorldNetOptions, steps, batch, rate)

/// Pictures as floats [n, 3, size, size] and what is in them: f32 [n, 14], one for each shape,
/// colour and texture that is there (initials do not count), and i64 [n], the first object's shape.
struct WorldTensors {
  torch::Tensor pictures, present, first, kinds;  // kinds i16 [n, size, size]
};
WorldTensors world_tensors(const data::WorldPictures& pictures);

/// Trains a network of that task from that seed.
WorldNet train_world_net(WorldTask task, const WorldTensors& data, const WorldNetOptions& options,
                         uint64_t seed);

/// Share of the pictures whose first object's shape a network of task `first` names; mean share of
/// right yes-or-no answers for the others but the autoencoder.
double world_accuracy(const WorldNet& net, WorldTask task, const WorldTensors& data,
                      const Deletion& deletion = {});

}  // namespace cajal::atlas

CAJAL_ENUM(cajal::atlas::WorldTask, {cajal::atlas::WorldTask::shape, "shape"},
           {cajal::atlas::WorldTask::colour, "colour"},
           {cajal::atlas::WorldTask::texture, "texture"}, {cajal::atlas::WorldTask::all, "all"},
           {cajal::atlas::WorldTask::first, "first"}, {cajal::atlas::WorldTask::vit, "vit"},
           {cajal::atlas::WorldTask::autoencoder, "autoencoder"})
