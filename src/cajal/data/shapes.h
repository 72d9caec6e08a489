#pragma once
#include <cstdint>

#include "cajal/data/image_set.h"

namespace cajal::data {

struct ShapesOptions {
  int64_t size = 32;                  // pixels a side
  int64_t channels = 3;               // 3 RGB, 1 grey
  double smallest = 8, largest = 24;  // diameter of the shape in pixels
  double noise = 0.1;                 // standard deviation, of a range of 1
};

/// Names of the classes of `shapes`: {disc, ring, square, triangle, cross} x {plain, striped}.
inline constexpr const char* kShapeNames[] = {
    "disc",         "ring",         "square",         "triangle",         "cross",
    "striped disc", "striped ring", "striped square", "striped triangle", "striped cross"};

/// "shapes-10": one shape a picture, of random colour, place, scale and rotation, on a background
/// gradient with noise; ten classes in turn. Images u8 [count, size, size], or [count, 3, size,
/// size] in colour; the same for the same seed on every machine. Source: dossier scalable-ff.
/// Throws Error when a shape does not fit the picture.
LabelledImages shapes(int64_t count, uint64_t seed, const ShapesOptions& options = {});

}  // namespace cajal::data
