#pragma once
#include <filesystem>

#include "cajal/core/json.h"
#include "cajal/train/optimizer.h"
#include "cajal/train/parameters.h"

namespace cajal::train {

/// Where a run stands besides its weights.
struct Standing {
  int64_t step = 0;            // steps done; the data follow from it
  std::optional<double> best;  // lowest evaluation loss so far
};

/// Other tensors that are part of the model's state (running means), by name.
using NamedBuffers = std::vector<std::pair<std::string, torch::Tensor>>;

/// Writes all that a run needs to go on exactly: values, moments, average, buffers, the state of
/// the random generators, and where it stands. Written beside `path`, then renamed.
void save_checkpoint(const std::filesystem::path& path, const FlatParameters& parameters,
                     const Optimizer& optimizer, const NamedBuffers& buffers,
                     const Standing& standing);

/// Reads it back. Throws Error naming the file and tensor when the model is another one.
Standing load_checkpoint(const std::filesystem::path& path, FlatParameters& parameters,
                         Optimizer& optimizer, const NamedBuffers& buffers);

}  // namespace cajal::train
