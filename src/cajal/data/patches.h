#pragma once
#include <cstdint>
#include <vector>

#include "cajal/data/image.h"
#include "cajal/data/image_set.h"

namespace cajal::data {

struct PatchOptions {
  int64_t size = 32;        // pixels a side
  double from = 0, to = 1;  // columns of the picture that patches lie in, shares of its width
};

/// Square patches from random places, the picture they come from as their class, in turn. Parts of
/// a picture that do not overlap (`from`, `to`) give patches that share no pixel. Images u8 [count,
/// size, size]; the same for the same seed on every machine. Source: dossier scalable-ff.
/// Throws Error for a picture that is not grey with 8 bits, or smaller than a patch.
LabelledImages texture_patches(const std::vector<Image>& pictures, int64_t count, uint64_t seed,
                               const PatchOptions& options = {});

}  // namespace cajal::data
