#pragma once
#include <CLI/CLI.hpp>

namespace cajal {

// The parts of `cajal atlas` that make and change atlases.
void setup_atlas_build(CLI::App& app);
void setup_atlas_merge(CLI::App& app);
void setup_atlas_match(CLI::App& app);

}  // namespace cajal
