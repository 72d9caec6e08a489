#pragma once
#include <cstdint>

#include "cajal/engine/checkpoint.h"
#include "cajal/kernels/formats/format.h"

namespace cajal::lm {

/// A model in memory whose matrices hold random rows in `format`, of any shape that a config.json
/// can say: for timing, when no file of that shape is at hand. Norms are ones, biases zero.
/// Throws Error when a row does not fill whole blocks.
Checkpoint random_model(const Json& config, Format format, uint64_t seed);

/// The config.json of a shape by name: "1B" is Llama 3.2 1B (2048 wide, 8192 neurons, 16 layers),
/// "100M" an OPT (768, 3072, 12), "tiny" a Llama for tests. Throws Error naming the shapes.
Json shape_config(const std::string& name);

}  // namespace cajal::lm
