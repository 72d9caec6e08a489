#pragma once
#include <string>

#include "../command_line.h"
#include "cajal/atlas/measure.h"

namespace cajal {

/// What `cajal atlas build` is asked for.
struct AtlasBuild {
  std::string model, text, output, shard = "1/1";
  int64_t tokens = 32768, ablation = 512;
  double save_every = 60;
  bool no_tables = false, compare_plain = false;
  atlas::MeasureOptions options;
};

/// Builds the atlas with its findings, with progress and a table on stderr.
void build_atlas(AtlasBuild& from);

// The parts of `cajal atlas` that make and change atlases.
void setup_atlas_build(CommandLine& app);
void setup_atlas_merge(CommandLine& app);
void setup_atlas_match(CommandLine& app);

}  // namespace cajal
