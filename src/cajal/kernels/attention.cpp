#include "cajal/kernels/attention.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "cajal/core/error.h"
#include "cajal/kernels/attention_rows.h"
#include "cajal/kernels/formats/half.h"
#include "cajal/kernels/gemm_kernels.h"

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

namespace {

/// How queries and positions are cut; by the sizes alone, so that every number of threads adds in
/// the same order.
struct Cut {
  Cut(int64_t first, int64_t tokens, int64_t key_heads, const AttentionOptions& options)
      : group(options.heads / key_heads),
        queries(std::max<int64_t>(1, kMostRows / group)),
        blocks((tokens + queries - 1) / queries) {
    // A few queries over many positions: pieces of them, whose sums are then joined.
    if (tokens > 8) return;
    begin = first_seen(options, first);
    piece = kPiece;
    pieces = (first + tokens - begin + piece - 1) / piece;
  }
  static constexpr int64_t kPiece = 256;

  int64_t group, queries, blocks;  // query heads of a key head, tokens of a block, blocks
  int64_t begin = 0, piece = std::numeric_limits<int64_t>::max() / 2, pieces = 1;
};

/// The queries of one block and key head, side by side.
struct BlockRows {
  BlockRows(const float* q, int64_t stride, int64_t first, int64_t block, int64_t tokens,
            const Cut& cut, int64_t head, int64_t width, const AttentionOptions& options)
      : count(std::min(cut.queries, tokens - block * cut.queries) * cut.group),
        padded(round_up(count, kRowMultiple)),
        values(width * padded),
        seen_first(padded, 0),
        seen_last(padded, -1) {
    for (int64_t r = 0; r < count; ++r) {
      const int64_t token = block * cut.queries + r / cut.group;
      const float* const of = q + token * stride + (head * cut.group + r % cut.group) * width;
      for (int64_t i = 0; i < width; ++i) values[i * padded + r] = of[i] * options.scale;
      seen_first[r] = static_cast<int32_t>(first_seen(options, first + token));
      seen_last[r] = static_cast<int32_t>(first + token);
    }
  }
  AttentionRows view(float cap) const {
    return {values.data(), padded, seen_first.data(), seen_last.data(), cap};
  }
  int64_t count, padded;
  std::vector<float> values;
  std::vector<int32_t> seen_first, seen_last;
};

/// Where the sums of one item lie in a row of floats.
AttentionSums sums_in(float* memory, int64_t rows) {
  return {memory, memory + rows, memory + 2 * rows};
}
int64_t sums_size(int64_t rows, int64_t width) { return rows * (2 + padded_width(width)); }

}  // namespace

void attend(const float* q, int64_t first, int64_t tokens, int64_t stride, const HeadCache& keys,
            const HeadCache& values, const AttentionOptions& options, float* y,
            ThreadPool& threads) {
  check(keys, values, options, first, tokens);
  if (tokens == 0) return;
  const int64_t width = keys.head_width, wide = padded_width(width);
  const Cut cut(first, tokens, keys.heads, options);
  const int64_t sums =
      sums_size(round_up(std::min(cut.queries, tokens) * cut.group, kRowMultiple), width);
  std::vector<float> memory(cut.pieces > 1 ? keys.heads * cut.blocks * cut.pieces * sums : 0);

  // The result of a block: its pieces' sums, scaled to the largest score of all.
  const auto finish = [&](int64_t head, int64_t block, const BlockRows& rows, float* pieces) {
    for (int64_t r = 0; r < rows.count; ++r) {
      float largest = -1e30f, total = 0;
      for (int64_t i = 0; i < cut.pieces; ++i)
        largest = std::max(largest, sums_in(pieces + i * sums, rows.padded).largest[r]);
      const int64_t token = block * cut.queries + r / cut.group;
      float* const to = y + (token * options.heads + head * cut.group + r % cut.group) * width;
      std::fill_n(to, width, 0.0f);
      for (int64_t i = 0; i < cut.pieces; ++i) {
        const auto of = sums_in(pieces + i * sums, rows.padded);
        const float factor = std::exp(of.largest[r] - largest);
        total += factor * of.total[r];
        for (int64_t c = 0; c < width; ++c) to[c] += factor * of.sum[r * wide + c];
      }
      for (int64_t c = 0; c < width; ++c) to[c] /= total;
    }
  };
  // The longest blocks first, so that threads end together.
  const auto item_of = [&](int64_t item) {
    return std::pair(item % keys.heads, cut.blocks - 1 - item / keys.heads);
  };
  for_items(gemm_kernels_f32(), keys.heads * cut.blocks * cut.pieces, threads, [&](int64_t item) {
    thread_local Scratch own;
    const auto [head, block] = item_of(item / cut.pieces);
    const BlockRows rows(q, stride, first, block, tokens, cut, head, width, options);
    float* const to = cut.pieces > 1 ? memory.data() + item * sums : own.floats(sums);
    const int64_t begin =
        std::max<int64_t>(rows.seen_first[0], cut.begin + item % cut.pieces * cut.piece);
    const int64_t end = std::min<int64_t>(rows.seen_last[rows.count - 1] + 1,
                                          cut.begin + (item % cut.pieces + 1) * cut.piece);
    attend_rows(rows.view(options.cap), keys, values, head, begin, end, sums_in(to, rows.padded));
    if (cut.pieces == 1) finish(head, block, rows, to);
  });
  if (cut.pieces == 1) return;
  for_items(gemm_kernels_f32(), keys.heads * cut.blocks, threads, [&](int64_t item) {
    const auto [head, block] = item_of(item);
    const BlockRows rows(q, stride, first, block, tokens, cut, head, width, options);
    finish(head, block, rows, memory.data() + item * cut.pieces * sums);
  });
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
