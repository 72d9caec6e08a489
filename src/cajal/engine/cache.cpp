#include "cajal/engine/cache.h"

#include <algorithm>

#include "cajal/core/error.h"

namespace cajal::engine {

Cache::Cache(const lm::Config& c, int64_t tokens, CacheFormat format) : capacity_(tokens) {
  require(tokens >= 1 && tokens <= c.context,
          "a cache for {} tokens, expected 1 to {} (the model's context)", tokens, c.context);
  const auto make = [&](int64_t room) {
    HeadCache cache{.format = format,
                    .data = nullptr,
                    .scale = nullptr,
                    .heads = c.kv_heads,
                    .capacity = room,
                    .head_width = c.head_width};
    cache.data = memory_.emplace_back(cache.bytes()).data();
    if (format == CacheFormat::q8)
      cache.scale = reinterpret_cast<float*>(
          memory_.emplace_back(static_cast<size_t>(c.kv_heads * room) * sizeof(float)).data());
    return cache;
  };
  for (const int64_t window : c.window) {
    const int64_t room = window > 0 ? std::min(tokens, window + kChunk) : tokens;
    layers_.push_back({make(room), make(room)});
  }
}

int64_t Cache::bytes() const {
  size_t total = 0;
  for (const auto& part : memory_) total += part.size();
  return static_cast<int64_t>(total);
}

}  // namespace cajal::engine
