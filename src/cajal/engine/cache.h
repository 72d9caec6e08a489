#pragma once
#include <cstdint>
#include <vector>

#include "cajal/engine/config.h"
#include "cajal/kernels/attention.h"
#include "cajal/kernels/memory.h"

namespace cajal::engine {

/// Keys and values of the tokens that a network has read, in single or half precision or 8 bits.
/// A layer with a window keeps only what its queries can still see.
class Cache {
 public:
  /// Tokens that a network reads at a time, and so the room that a window needs beside itself.
  static constexpr int64_t kChunk = 512;

  /// Room for `tokens` tokens in all. Throws Error when that is none, or beyond the context.
  Cache(const lm::Config& config, int64_t tokens, CacheFormat format);

  int64_t tokens() const { return tokens_; }      // read so far: the position of the next one
  int64_t capacity() const { return capacity_; }  // that it has room for
  int64_t bytes() const;
  /// Forgets everything.
  void clear() { tokens_ = 0; }

  // For the network.
  struct Layer {
    HeadCache keys, values;
  };
  const Layer& layer(int64_t index) const { return layers_[static_cast<size_t>(index)]; }
  void advance(int64_t tokens) { tokens_ += tokens; }

 private:
  int64_t capacity_, tokens_ = 0;
  std::vector<Layer> layers_;
  std::vector<std::vector<std::byte>> memory_;
};

}  // namespace cajal::engine
