#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "cajal/data/array.h"

namespace cajal::data {

/// Pictures with a class each.
struct LabelledImages {
  Array images;                 // u8 [count, height, width], or [count, 3, height, width] in colour
  std::vector<uint8_t> labels;  // [count]
};

struct ImageSet {
  std::string name;  // as tables must name it: a part of a set is never called by the set's name
  LabelledImages train, test;
};

/// "mnist", "fashion-mnist" or "cifar10", whole or the part of it that is here. A whole set comes
/// with its own split; a part is permuted with `seed` and its first 80 % train.
/// Throws Error when it is not here or its files do not fit each other.
ImageSet read_image_set(std::string_view name, uint64_t seed = 0);

/// One batch of CIFAR-10's binary version: records of a label and 3 x 32 x 32 samples.
LabelledImages parse_cifar_batch(std::string_view bytes, std::string_view where);

}  // namespace cajal::data
