#pragma once
#include <filesystem>
#include <optional>

#include "cajal/study/study.h"

namespace cajal::study {

struct SeedOptions {
  int64_t layers = 3, steps = 500, batch = 16;
  bool post_norm = false;  // norms behind each block's sum instead of before its parts
};

/// The folder of a small language model (OPT form, ReLU, width 128, 512 neurons, context 128, 2,048
/// tokens of a vocabulary that all seeds share) trained on classics/valid from this seed. Kept in
/// the cache (cajal/models below $XDG_CACHE_HOME or ~/.cache) under a name made of its recipe, so
/// that later runs begin from it; its README.md has the recipe. Nothing, and a line under "not
/// shown", where the text is absent.
std::optional<std::filesystem::path> trained_seed(Lab& lab, uint64_t seed,
                                                  const SeedOptions& options = {});

}  // namespace cajal::study
