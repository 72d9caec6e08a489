#pragma once
#include <cstdint>
#include <optional>
#include <vector>

#include "cajal/atlas/inversion_trials.h"
#include "cajal/atlas/unit_views.h"
#include "cajal/core/options.h"

namespace cajal::atlas {

struct ZooWorldOptions {
  ZooOptions training = {};  // of each model; the generator learns twice as long
  int64_t drawn = 1000;      // pictures of the generator that units are compared on
  int64_t shift = 3;         // pixels that its training pictures are moved by
  int64_t most_pairs = 40;   // that inversion uses
};
CAJAL_OPTIONS(ZooWorldOptions, training, drawn, shift, most_pairs)

/// How the units of a model fit those of the generator.
struct ZooFit {
  int64_t generator_units = 0, units = 0;
  int64_t best = 0;                // best buddies
  int64_t above = 0;               // those above the null threshold
  int64_t blank = 0, rotated = 0;  // the same for the untrained net, and for turned channels
  double mean = 0, one_way = 0, random = 0;  // scores of best buddies, one-way best, all pairs
  double threshold = 0, cka = 0;             // cka: of the last layers' means
  std::vector<int64_t> buddies, sure;  // units of the generator with a best buddy; above the null
};
CAJAL_OPTIONS(ZooFit, generator_units, units, best, above, blank, rotated, mean, one_way, random,
              threshold, cka, buddies, sure)

/// A generator of pictures and models of all kinds, trained on the same pictures: what studies of
/// common units compare. Everything is trained when it is first asked for and the same for the same
/// seed, whatever was asked before. Source: dossier rosetta-neurons.
class ZooWorld {
 public:
  /// pictures [images, 1, 28, 28] in [0, 1], labels i64 [images].
  ZooWorld(torch::Tensor pictures, torch::Tensor labels, const ZooWorldOptions& options);

  ZooFit fit(ZooKind kind, uint64_t seed);
  /// How many kinds of units these units of the generator are, by their maps.
  int64_t clusters(const std::vector<int64_t>& units, uint64_t seed);
  /// With the convolutional classifier as judge.
  const InversionWorld& inversion(uint64_t seed);

 private:
  void prepare(uint64_t seed);
  ZooModel train(ZooKind kind, uint64_t seed) const;

  torch::Tensor pictures_, labels_;
  ZooWorldOptions options_;
  uint64_t seed_ = 0;
  std::optional<InversionWorld> world_;  // of seed_, as what follows
  torch::Tensor drawn_;
  UnitViews views_;
};

}  // namespace cajal::atlas
