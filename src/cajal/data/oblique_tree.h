#pragma once
#include <cstdint>
#include <vector>

namespace cajal::data {

/// How the regions of a generated task lie.
enum class Regions {
  balanced,  // a tree of random cuts through 0: all regions hold about as much
  halving    // a chain of orthogonal cuts: half of all, half of the rest, ...
};

struct ObliqueTreeOptions {
  int64_t count = 10'000, features = 16, depth = 4, classes = 10;
  Regions regions = Regions::balanced;
  uint64_t task = 0;    // seed of cuts and maps
  uint64_t sample = 0;  // seed of the inputs
};

struct ObliqueTreeTask {
  std::vector<float> x;         // [count, features], N(0, 1)
  std::vector<uint8_t> labels;  // [count]
  std::vector<int32_t> region;  // [count], below 2^depth
};

/// A piecewise linear task: oblique cuts pick one of 2^depth linear maps to classes, and the label
/// is the class with the largest value. Throws Error for options that make no task.
/// Source: dossiers fast-feedforward and fff-balanced (generators).
ObliqueTreeTask oblique_tree(const ObliqueTreeOptions& options);

}  // namespace cajal::data
