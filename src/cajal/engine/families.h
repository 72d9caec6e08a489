#pragma once
#include "cajal/engine/config.h"
#include "cajal/engine/fields.h"

namespace cajal::lm {

/// Fills everything of `config` but the head from the keys of config.family; defaults are those of
/// the family's Hugging Face configuration class, for files that leave keys out.
void read_family(const Fields& fields, Config& config);

}  // namespace cajal::lm
