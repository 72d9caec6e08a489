#pragma once
#include <cstddef>
#include <cstdint>

#include "cajal/core/options.h"
#include "cajal/core/threads.h"

namespace cajal {

/// How keys and values are kept. q8: 8-bit codes with one scale for each head and position.
enum class CacheFormat { f32, f16, q8 };

/// The keys, or the values, of the tokens that a layer has seen; it owns nothing. Position p lies
/// in slot p % capacity, so that a layer whose queries look back at most `capacity` tokens may go
/// on for ever.
struct HeadCache {
  CacheFormat format = CacheFormat::f16;
  void* data = nullptr;    // [heads, capacity, head_width]
  float* scale = nullptr;  // q8: [heads, capacity]
  int64_t heads = 0;       // key heads
  int64_t capacity = 0;
  int64_t head_width = 0;

  static size_t value_bytes(CacheFormat format);  // of one value of `data`
  size_t bytes() const;                           // of `data`
};

/// Keeps the keys (or values) of `tokens` positions from `first` on; token t starts at
/// x + t · stride. Shapes: x [tokens, heads, head_width].
void store(const HeadCache& cache, int64_t first, int64_t tokens, const float* x, int64_t stride);

struct AttentionOptions {
  int64_t heads = 0;   // query heads, a multiple of the key heads: head h reads key head h / group
  float scale = 1;     // multiplies q · k
  float cap = 0;       // scores become cap · tanh(score / cap); 0: as they are
  int64_t window = 0;  // positions that a query sees, its own included; 0: all
};

/// Causal attention of `tokens` queries at positions first, first + 1, ... over what is stored up
/// to each of them: y = softmax(cap(scale · q · k)) v in single precision, in blocks, so that
/// nothing of size tokens² is kept. Token t of q starts at q + t · stride; y [tokens, heads,
/// head_width] is dense. Bitwise the same for every number of threads. Throws Error when the heads
/// do not divide, or when a position that a query sees no longer lies in its slot.
void attend(const float* q, int64_t first, int64_t tokens, int64_t stride, const HeadCache& keys,
            const HeadCache& values, const AttentionOptions& options, float* y,
            ThreadPool& threads);

namespace naive {  // in double precision, by the formula
void attend(const float* q, int64_t first, int64_t tokens, int64_t stride, const HeadCache& keys,
            const HeadCache& values, const AttentionOptions& options, float* y,
            ThreadPool& threads);
}

}  // namespace cajal

CAJAL_ENUM(cajal::CacheFormat, {cajal::CacheFormat::f32, "f32"}, {cajal::CacheFormat::f16, "f16"},
           {cajal::CacheFormat::q8, "q8"})
