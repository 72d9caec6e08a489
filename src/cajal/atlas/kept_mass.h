#pragma once
#include <span>
#include <vector>

#include "cajal/models/lm/adapted.h"

namespace cajal::atlas {

/// Share of the full softmax that the keys hold which each search lists, an eighth of the window a
/// query, mean over layers, heads and queries that see more; `ids` is one window. Searches by codes
/// use the codebooks of the adapted model, which must have some.
std::vector<double> kept_mass(lm::Adapted& model, std::span<const int32_t> ids,
                              std::span<const KeySearch> searches);

}  // namespace cajal::atlas
