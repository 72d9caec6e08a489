#pragma once
#include <filesystem>
#include <span>
#include <vector>

#include "cajal/core/options.h"

namespace cajal::study {

/// Decoding with the engine, one token after another.
struct Decoding {
  double bytes_per_token = 0, tokens_per_second = 0;
  double times_first = 0;  // the speed of the first model
};
CAJAL_OPTIONS(Decoding, bytes_per_token, tokens_per_second, times_first)

/// Of checkpoints that read the same tokens, in turn, `rounds` times.
std::vector<Decoding> time_decoding(const std::vector<std::filesystem::path>& models,
                                    std::span<const int32_t> ids, int rounds);

}  // namespace cajal::study
