#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "cajal/engine/network.h"
#include "cajal/text/sampling.h"

namespace cajal::engine {

struct GenerateOptions {
  int64_t max_tokens = 128;  // new ones
  text::SamplingOptions sampling = {};
  std::optional<CacheFormat> cache = {};  // else as the weights have it
};

/// Continues `prompt` until `max_tokens` new ids, an end id of the config (which is kept), or the
/// end of the context; calls `on_token` for each new id as it is drawn (return false to stop).
/// Returns prompt and continuation. Throws Error for an empty prompt, one longer than the context
/// and ids out of range.
std::vector<int32_t> generate(const Network& network, const std::vector<int32_t>& prompt,
                              const GenerateOptions& options, ThreadPool& threads,
                              const std::function<bool(int32_t)>& on_token = {});

}  // namespace cajal::engine
