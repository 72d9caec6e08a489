#pragma once
#include <span>
#include <string>

#include "cajal/core/random.h"

namespace fuzz {

/// One of `seeds` with a few bytes, lengths or ranges changed; the same for the same `random`.
std::string mutate(std::span<const std::string> seeds, cajal::Random& random);

}  // namespace fuzz
