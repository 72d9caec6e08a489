#include "cajal/engine/generate.h"

#include <algorithm>

#include "cajal/core/error.h"

namespace cajal::engine {

std::vector<int32_t> generate(const Network& network, const std::vector<int32_t>& prompt,
                              const GenerateOptions& options, ThreadPool& threads,
                              const std::function<bool(int32_t)>& on_token) {
  const auto& c = network.config();
  require(!prompt.empty(), "generate: the prompt is empty");
  require(static_cast<int64_t>(prompt.size()) <= c.context,
          "generate: the prompt has {} tokens, the context holds {}", prompt.size(), c.context);
  text::Sampler sampler(options.sampling);
  auto ids = prompt;
  const auto count = [&] { return static_cast<int64_t>(ids.size()); };
  const int64_t left = c.context - count();
  const int64_t end = count() + std::clamp<int64_t>(options.max_tokens, 0, left);
  if (count() == end) return ids;
  Cache cache(c, end, options.cache.value_or(network.cache_format()));
  while (count() < end) {
    // Past its original context longrope turns every key another way, so all are made again.
    if (!c.rope.long_inverse_frequency.empty() && count() > c.rope.original_context &&
        cache.tokens() <= c.rope.original_context)
      cache.clear();
    const auto fresh = std::span(ids).subspan(static_cast<size_t>(cache.tokens()));
    const int32_t id = sampler(network.forward(fresh, 1, cache, threads));
    ids.push_back(id);
    if (on_token && !on_token(id)) break;
    if (std::find(c.end_ids.begin(), c.end_ids.end(), id) != c.end_ids.end()) break;
  }
  return ids;
}

}  // namespace cajal::engine
