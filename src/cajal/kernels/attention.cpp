#include "cajal/kernels/attention.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "cajal/core/error.h"
#include "cajal/kernels/formats/half.h"

namespace cajal {
namespace {

void store_head(const HeadCache& cache, int64_t at, const float* x) {
  const int64_t first = at * cache.head_width;
  switch (cache.format) {
    case CacheFormat::f32:
      std::copy_n(x, cache.head_width, static_cast<float*>(cache.data) + first);
      return;
    case CacheFormat::f16:
      std::transform(x, x + cache.head_width, static_cast<uint16_t*>(cache.data) + first,
                     float_to_half);
      return;
    case CacheFormat::q8: {
      float largest = 0;
      for (int64_t i = 0; i < cache.head_width; ++i) largest = std::max(largest, std::fabs(x[i]));
      const float inverse = largest > 0 ? 127 / largest : 0;
      auto* const codes = static_cast<int8_t*>(cache.data) + first;
      for (int64_t i = 0; i < cache.head_width; ++i)
        codes[i] = static_cast<int8_t>(std::lrint(std::clamp(x[i] * inverse, -127.0f, 127.0f)));
      cache.scale[at] = largest / 127;
      return;
    }
  }
}

float stored_value(const HeadCache& cache, int64_t at, int64_t i) {
  const int64_t of = at * cache.head_width + i;
  switch (cache.format) {
    case CacheFormat::f32:
      return static_cast<const float*>(cache.data)[of];
    case CacheFormat::f16:
      return half_to_float(static_cast<const uint16_t*>(cache.data)[of]);
    case CacheFormat::q8:
      break;
  }
  return static_cast<float>(static_cast<const int8_t*>(cache.data)[of]) * cache.scale[at];
}

/// The first position that the query at `position` sees.
int64_t first_seen(const AttentionOptions& options, int64_t position) {
  return options.window > 0 ? std::max<int64_t>(0, position - options.window + 1) : 0;
}

void check(const HeadCache& keys, const HeadCache& values, const AttentionOptions& options,
           int64_t first, int64_t tokens) {
  require(keys.heads > 0 && options.heads % keys.heads == 0,
          "attention: {} query heads over {} key heads do not divide", options.heads, keys.heads);
  require(keys.heads == values.heads && keys.head_width == values.head_width &&
              keys.capacity == values.capacity,
          "attention: keys [{}, {}, {}] and values [{}, {}, {}] differ", keys.heads, keys.capacity,
          keys.head_width, values.heads, values.capacity, values.head_width);
  require(first + tokens - first_seen(options, first) <= keys.capacity,
          "attention: positions {} to {} are seen, the cache holds {}", first_seen(options, first),
          first + tokens - 1, keys.capacity);
}

}  // namespace

size_t HeadCache::value_bytes(CacheFormat format) {
  return format == CacheFormat::f32 ? 4 : format == CacheFormat::f16 ? 2 : 1;
}

size_t HeadCache::bytes() const {
  return static_cast<size_t>(heads * capacity * head_width) * value_bytes(format);
}

void store(const HeadCache& cache, int64_t first, int64_t tokens, const float* x, int64_t stride) {
  for (int64_t t = 0; t < tokens; ++t)
    for (int64_t head = 0; head < cache.heads; ++head)
      store_head(cache, head * cache.capacity + (first + t) % cache.capacity,
                 x + t * stride + head * cache.head_width);
}

void attend(const float* q, int64_t first, int64_t tokens, int64_t stride, const HeadCache& keys,
            const HeadCache& values, const AttentionOptions& options, float* y,
            ThreadPool& threads) {
  naive::attend(q, first, tokens, stride, keys, values, options, y, threads);
}

namespace naive {

void attend(const float* q, int64_t first, int64_t tokens, int64_t stride, const HeadCache& keys,
            const HeadCache& values, const AttentionOptions& options, float* y, ThreadPool&) {
  check(keys, values, options, first, tokens);
  const int64_t width = keys.head_width, group = options.heads / keys.heads;
  for (int64_t t = 0; t < tokens; ++t) {
    const int64_t last = first + t, begin = first_seen(options, last);
    std::vector<double> weight(last + 1 - begin), sum(width);
    for (int64_t head = 0; head < options.heads; ++head) {
      const float* const query = q + t * stride + head * width;
      const auto slot = [&](int64_t p) { return head / group * keys.capacity + p % keys.capacity; };
      for (int64_t p = begin; p <= last; ++p) {
        double score = 0;
        for (int64_t i = 0; i < width; ++i)
          score += double{query[i]} * stored_value(keys, slot(p), i);
        score *= options.scale;
        if (options.cap > 0) score = options.cap * std::tanh(score / options.cap);
        weight[p - begin] = score;
      }
      const double largest = *std::max_element(weight.begin(), weight.end());
      double total = 0;
      for (auto& w : weight) total += w = std::exp(w - largest);
      std::fill(sum.begin(), sum.end(), 0.0);
      for (int64_t p = begin; p <= last; ++p)
        for (int64_t i = 0; i < width; ++i)
          sum[i] += weight[p - begin] / total * stored_value(values, slot(p), i);
      for (int64_t i = 0; i < width; ++i)
        y[(t * options.heads + head) * width + i] = static_cast<float>(sum[i]);
    }
  }
}

}  // namespace naive
}  // namespace cajal
