#pragma once
#include <cstdint>

#include "cajal/data/image_set.h"

namespace cajal::data {

/// Stand-in for street view house numbers: each digit [28, 28] in a random colour on a coloured
/// ground of another hue (luminance contrast 0.2 to 0.8), pieces of other digits at both sides, a
/// mild light gradient. Returns `count` pictures u8 [count, 3, 32, 32] with the digit's class.
/// Throws Error unless `digits` holds pictures of 28 x 28.
/// Source: generator of dossier precortical.
LabelledImages street_digits(const LabelledImages& digits, int64_t count, uint64_t seed);

}  // namespace cajal::data
