#include "cajal/kernels/fff.h"

#include <algorithm>
#include <atomic>
#include <numeric>
#include <vector>

#include "cajal/core/error.h"
#include "cajal/kernels/gemm_feed_forward.h"
#include "cajal/kernels/gemm_kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cajal/kernels/fff.cpp"
#include "cajal/kernels/simd_targets.h"
// After the choice of targets.
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "cajal/kernels/decode-inl.h"
#include "cajal/kernels/streams-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cajal {
namespace HWY_NAMESPACE {

/// Calls visit(column, blocks) for the blocks of kRows rows, which lie at the same column; the last
/// ones are padded with zeros where values stand alone.
template <class Decoder, int kRows, class Visit>
HWY_INLINE void ForBlocks(const uint8_t* const (&row)[kRows], const uint8_t* const (&next)[kRows],
                          int64_t width, const Visit& visit) {
  constexpr size_t values = Decoder::kValues, bytes = Decoder::kBytes;
  constexpr size_t step = std::max<size_t>(1, 128 / bytes);  // blocks between prefetches
  const size_t blocks = width / values, size = blocks * bytes;
  const uint8_t* at[kRows];
  for (size_t block = 0; block < blocks; ++block) {
    for (int r = 0; r < kRows; ++r) {
      if (block % step == 0) PrefetchAhead(row[r], next[r], block * bytes, step * bytes, size);
      at[r] = row[r] + block * bytes;
    }
    visit(block * values, at);
  }
  if (const size_t rest = width % values) {
    HWY_ALIGN uint8_t padded[kRows][bytes] = {};
    for (int r = 0; r < kRows; ++r) {
      std::memcpy(padded[r], row[r] + size, rest * (bytes / values));
      at[r] = padded[r];
    }
    visit(blocks * values, at);
  }
}

/// out[r] = row r . x; x is readable to the next multiple of 32.
template <class Decoder, int kRows>
HWY_INLINE void Dot(const uint8_t* const (&row)[kRows], const uint8_t* const (&next)[kRows],
                    int64_t width, const float* x, float (&out)[kRows]) {
  VF sum[kRows][2];
  for (int r = 0; r < kRows; ++r) sum[r][0] = sum[r][1] = hn::Zero(df);
  ForBlocks<Decoder>(row, next, width, [&](size_t column, const auto& at) HWY_ATTR {
    for (int r = 0; r < kRows; ++r)
      Decoder::Decode(at[r], [&](size_t i, VF w) HWY_ATTR {
        auto& of = sum[r][i / kLanes % 2];
        of = hn::MulAdd(w, hn::LoadU(df, x + column + i), of);
      });
  });
  for (int r = 0; r < kRows; ++r)
    out[r] = hn::GetLane(hn::SumOfLanes(df, hn::Add(sum[r][0], sum[r][1])));
}

/// y += the sum over r of a[r] row r; y is writable to the next multiple of 32.
template <class Decoder, int kRows>
HWY_INLINE void Axpy(const uint8_t* const (&row)[kRows], const uint8_t* const (&next)[kRows],
                     int64_t width, const float* a, float* y) {
  constexpr size_t vectors = Decoder::kValues / kLanes;
  VF factor[kRows];
  for (int r = 0; r < kRows; ++r) factor[r] = hn::Set(df, a[r]);
  ForBlocks<Decoder>(row, next, width, [&](size_t column, const auto& at) HWY_ATTR {
    VF sum[vectors];
    for (size_t v = 0; v < vectors; ++v) sum[v] = hn::LoadU(df, y + column + v * kLanes);
    for (int r = 0; r < kRows; ++r)
      Decoder::Decode(at[r], [&](size_t i, VF w) HWY_ATTR {
        sum[i / kLanes] = hn::MulAdd(w, factor[r], sum[i / kLanes]);
      });
    for (size_t v = 0; v < vectors; ++v) hn::StoreU(sum[v], df, y + column + v * kLanes);
  });
}

/// row r . x.
float DotOne(const RowMatrix& matrix, int64_t r, const float* x) {
  float out[1] = {};
  WithDecoder(matrix.format, [&](auto decoder) HWY_ATTR {
    const uint8_t* const row[1] = {matrix.row(r)};
    Dot<decltype(decoder), 1>(row, row, matrix.width, x, out);
  });
  return out[0];
}

/// The streams that are read side by side.
constexpr int kStreams = 4;

/// out[i] = row first + i . x; the rows of `then` from `first` on are read after them.
void DotLeaf(const RowMatrix& matrix, const RowMatrix& then, int64_t first, int64_t count,
             const float* x, float* out) {
  WithDecoder(matrix.format, [&](auto decoder) HWY_ATTR {
    using Decoder = decltype(decoder);
    int64_t i = 0;
    const auto tile = [&](auto rows) HWY_ATTR {
      constexpr int kRows = rows;
      const uint8_t *row[kRows], *next[kRows];
      float sums[kRows];
      for (int r = 0; r < kRows; ++r) {
        row[r] = matrix.row(first + i + r);
        const int64_t after = i + r + kRows;
        next[r] = after < count ? matrix.row(first + after)
                                : then.row(first + std::min<int64_t>(after - count, count - 1));
      }
      Dot<Decoder, kRows>(row, next, matrix.width, x, sums);
      std::copy_n(sums, kRows, out + i);
      i += kRows;
    };
    while (i + kStreams <= count) tile(std::integral_constant<int, kStreams>());
    while (i < count) tile(std::integral_constant<int, 1>());
  });
}

/// y += the sum over i of a[i] row rows[i], of its columns [begin, end); `begin` starts a block.
void AxpyRows(const RowMatrix& matrix, int64_t begin, int64_t end, const int64_t* rows,
              int64_t count, const float* a, float* y) {
  const int64_t skipped = row_bytes(matrix.format, begin);
  WithDecoder(matrix.format, [&](auto decoder) HWY_ATTR {
    using Decoder = decltype(decoder);
    int64_t i = 0;
    const auto tile = [&](auto size) HWY_ATTR {
      constexpr int kRows = size;
      const uint8_t *row[kRows], *next[kRows];
      for (int r = 0; r < kRows; ++r) {
        row[r] = matrix.row(rows[i + r]) + skipped;
        next[r] = matrix.row(rows[std::min(i + r + kRows, count - 1)]) + skipped;
      }
      Axpy<Decoder, kRows>(row, next, end - begin, a + i, y);
      i += kRows;
    };
    while (i + kStreams <= count) tile(std::integral_constant<int, kStreams>());
    while (i < count) tile(std::integral_constant<int, 1>());
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace cajal
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cajal {

HWY_EXPORT(DotOne);
HWY_EXPORT(DotLeaf);
HWY_EXPORT(AxpyRows);

namespace {

constexpr int64_t kTogether = 16;     // tokens that descend side by side, to wait for memory once
constexpr int64_t kManyInALeaf = 16;  // tokens a leaf from which they are multiplied together

void check(const FeedForwardTree& t) {
  require(t.depth >= 0 && t.depth <= 24, "tree: depth {}, expected 0 to 24", t.depth);
  require(t.key.rows % t.leaves() == 0 && t.value.rows == t.key.rows,
          "tree: {} keys and {} values, expected the same multiple of {} leaves", t.key.rows,
          t.value.rows, t.leaves());
  require(t.depth == 0 || (t.node.rows == t.leaves() - 1 && t.node.width == t.width()),
          "tree: nodes are [{}, {}], expected [{}, {}]", t.node.rows, t.node.width, t.leaves() - 1,
          t.width());
}

/// Tokens of x with zeros up to the next multiple of 32 values.
class Padded {
 public:
  Padded(const float* x, int64_t batch, int64_t width) : x_(x), stride_(round_up(width, 32)) {
    if (stride_ == width) return;
    copy_.resize(batch * stride_);
    for (int64_t b = 0; b < batch; ++b)
      std::copy_n(x + b * width, width, copy_.begin() + b * stride_);
    x_ = copy_.data();
  }
  const float* operator[](int64_t b) const { return x_ + b * stride_; }

 private:
  const float* x_;
  int64_t stride_;
  std::vector<float> copy_;
};

/// The bytes [from, to) of a row.
void prefetch(const RowMatrix& matrix, int64_t row, int64_t from, int64_t to) {
  to = std::min(to, row_bytes(matrix.format, matrix.width));
  for (int64_t at = from; at < to; at += 64) __builtin_prefetch(matrix.row(row) + at, 0, 2);
}
constexpr int64_t kWhole = 1 << 20;

/// Of each child of a node: which one is wanted is known too late, and the other is read in vain.
constexpr int64_t kGuessed = 512;

/// What the kernels read first of `count` rows: as much as they ask for ahead of themselves.
void prefetch_rows(const RowMatrix& matrix, int64_t first, int64_t count) {
  for (int64_t r = first; r < first + count; ++r) prefetch(matrix, r, 0, 1024);
}

/// Up to kTogether tokens from `first` on, level by level.
void descend(const FeedForwardTree& tree, const Padded& x, int64_t first, int64_t count,
             int32_t* leaf) {
  std::fill_n(leaf + first, count, 0);
  for (int64_t level = 0; level < tree.depth; ++level) {
    const int64_t row = (int64_t{1} << level) - 1, below = 2 * row + 1;
    for (int64_t b = first; b < first + count; ++b) {
      const int64_t node = row + leaf[b];
      if (count == 1) {
        prefetch(tree.node, node, level > 0 ? kGuessed : 0, kWhole);
        for (int64_t child = 2 * leaf[b]; child < 2 * leaf[b] + 2; ++child)
          if (level + 1 < tree.depth)
            prefetch(tree.node, below + child, 0, kGuessed);
          else
            for (int64_t i = 0; i < std::min<int64_t>(4, tree.leaf_width()); ++i)
              prefetch(tree.key, child * tree.leaf_width() + i, 0, kGuessed);
      }
      const float score = HWY_DYNAMIC_DISPATCH(DotOne)(tree.node, node, x[b]) +
                          (tree.node_bias ? tree.node_bias[node] : 0);
      leaf[b] = 2 * leaf[b] + (score >= 0);
      // The whole row: the other tokens' nodes are read before it is needed.
      if (count > 1 && level + 1 < tree.depth) prefetch(tree.node, below + leaf[b], 0, kWhole);
    }
  }
}

void descend(const FeedForwardTree& tree, const Padded& x, int64_t batch, int32_t* leaf,
             ThreadPool& threads) {
  for_items(gemm_kernels_f32(), (batch + kTogether - 1) / kTogether, threads, [&](int64_t item) {
    const int64_t first = item * kTogether;
    descend(tree, x, first, std::min(kTogether, batch - first), leaf);
  });
}

/// y = Σ of hidden[i] value row rows[i] over those that are not zero, of the columns [begin, end).
void add_values(const RowMatrix& value, const float* bias, float* hidden, int64_t* rows,
                int64_t count, float* y, int64_t begin, int64_t end) {
  thread_local std::vector<float> sums;
  int64_t active = 0;
  for (int64_t i = 0; i < count; ++i) {
    if (hidden[i] == 0) continue;
    hidden[active] = hidden[i], rows[active++] = rows[i];
  }
  sums.assign(round_up(end - begin, 32), 0);
  if (bias) std::copy(bias + begin, bias + end, sums.begin());
  HWY_DYNAMIC_DISPATCH(AxpyRows)(value, begin, end, rows, active, hidden, sums.data());
  std::copy_n(sums.begin(), end - begin, y + begin);
}

/// hidden[i] = key · x + bias of the neurons [begin, end) of a leaf.
void hear(const FeedForwardTree& tree, int64_t leaf, int64_t begin, int64_t end, const float* x,
          float* hidden) {
  const int64_t first = leaf * tree.leaf_width();
  HWY_DYNAMIC_DISPATCH(DotLeaf)
  (tree.key, tree.value, first + begin, end - begin, x, hidden + begin);
  if (tree.key_bias)
    for (int64_t i = begin; i < end; ++i) hidden[i] += tree.key_bias[first + i];
}

/// The columns [begin, end) of y, from what the neurons of a leaf have heard.
void speak(const FeedForwardTree& tree, int64_t leaf, const float* heard, float* y, int64_t begin,
           int64_t end) {
  thread_local std::vector<float> hidden;
  thread_local std::vector<int64_t> rows;
  const int64_t count = tree.leaf_width();
  hidden.resize(count), rows.resize(count);
  std::iota(rows.begin(), rows.end(), leaf * count);
  apply_law(tree.law, heard, count, hidden.data());
  add_values(tree.value, tree.value_bias ? tree.value_bias + leaf * tree.outputs() : nullptr,
             hidden.data(), rows.data(), count, y, begin, end);
}

void answer(const FeedForwardTree& tree, int64_t leaf, const float* x, float* y) {
  thread_local std::vector<float> heard;
  heard.resize(tree.leaf_width());
  hear(tree, leaf, 0, tree.leaf_width(), x, heard.data());
  speak(tree, leaf, heard.data(), y, 0, tree.outputs());
}

/// Leaves of as many bytes are worth more than one thread for a token alone.
constexpr int64_t kShared = 96 << 10;

void wait_for(const auto& ready) {
  while (!ready()) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
  }
}

/// One token by all threads: while one descends, the others wait for the leaf that it finds; each
/// hears for a part of the neurons and then speaks for a part of the columns.
void answer_by_all(const FeedForwardTree& tree, const Padded& x, float* y, ThreadPool& threads) {
  const int64_t parts = threads.size(), count = tree.leaf_width();
  const int64_t grain = std::max<int64_t>(32, block_values(tree.value.format));
  const int64_t blocks = (tree.outputs() + grain - 1) / grain;
  std::vector<float> heard(count);
  std::atomic<int32_t> found = -1;
  std::atomic<int64_t> done = 0;
  threads.run([&](int part) {
    if (part == 0) {
      int32_t leaf;
      descend(tree, x, 0, 1, &leaf);
      found = leaf;
    }
    wait_for([&] { return found >= 0; });
    hear(tree, found, count * part / parts, count * (part + 1) / parts, x[0], heard.data());
    ++done;
    wait_for([&] { return done == parts; });
    const int64_t begin = blocks * part / parts * grain;
    const int64_t end = std::min(tree.outputs(), blocks * (part + 1) / parts * grain);
    if (begin < end) speak(tree, found, heard.data(), y, begin, end);
  });
}

/// Tokens in the order of their leaves, and where each leaf's tokens begin.
struct ByLeaf {
  ByLeaf(const std::vector<int32_t>& leaf, int64_t leaves) : begin(leaves + 1), token(leaf.size()) {
    for (const int32_t of : leaf) ++begin[of + 1];
    std::partial_sum(begin.begin(), begin.end(), begin.begin());
    auto next = begin;
    for (size_t b = 0; b < leaf.size(); ++b) token[next[leaf[b]]++] = static_cast<int32_t>(b);
  }
  std::vector<int64_t> begin;
  std::vector<int32_t> token;
};

void answer_together(const FeedForwardTree& tree, const std::vector<int32_t>& leaf, const float* x,
                     float* y, ThreadPool& threads, Precision precision) {
  const ByLeaf order(leaf, tree.leaves());
  std::vector<int64_t> rows(tree.leaves() + 1);
  for (int64_t j = 0; j <= tree.leaves(); ++j) rows[j] = j * tree.leaf_width();
  for (size_t b = 0; b < leaf.size(); ++b) {
    float* const of = y + static_cast<int64_t>(b) * tree.outputs();
    if (tree.value_bias) {
      std::copy_n(tree.value_bias + leaf[b] * tree.outputs(), tree.outputs(), of);
    } else {
      std::fill_n(of, tree.outputs(), 0.0f);
    }
  }
  const FeedForwardRows block{.key = tree.key,
                              .gate = {},
                              .value = tree.value,
                              .layout = ValueLayout::by_neuron,
                              .law = tree.law,
                              .key_bias = tree.key_bias};
  grouped_feed_forward(block, {rows, order.begin, order.token, nullptr}, x,
                       static_cast<int64_t>(leaf.size()), y, threads, precision);
}

}  // namespace

void descend_tree(const FeedForwardTree& tree, const float* x, int64_t batch, int32_t* leaf,
                  ThreadPool& threads) {
  check(tree);
  descend(tree, Padded(x, batch, tree.width()), batch, leaf, threads);
}

void tree_feed_forward(const FeedForwardTree& tree, const float* x, int64_t batch, float* y,
                       ThreadPool& threads, Precision precision) {
  check(tree);
  const Padded padded(x, batch, tree.width());
  if (batch == 1) {
    const int64_t bytes = tree.leaf_width() * (row_bytes(tree.key.format, tree.width()) +
                                               row_bytes(tree.value.format, tree.outputs()));
    if (threads.size() > 1 && bytes >= kShared) return answer_by_all(tree, padded, y, threads);
    int32_t leaf;
    descend(tree, padded, 0, 1, &leaf);
    return answer(tree, leaf, padded[0], y);
  }
  std::vector<int32_t> leaf(batch);
  descend(tree, padded, batch, leaf.data(), threads);
  if (batch >= kManyInALeaf * tree.leaves())
    return answer_together(tree, leaf, x, y, threads, precision);
  // In the order of leaves, so that tokens of one leaf find it in the cache and the next leaf is
  // known while one is read.
  std::vector<int32_t> token(batch);
  std::iota(token.begin(), token.end(), 0);
  std::stable_sort(token.begin(), token.end(),
                   [&](int32_t a, int32_t b) { return leaf[a] < leaf[b]; });
  threads.parallel_for(batch, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      if (i + 1 < end)
        prefetch_rows(tree.key, leaf[token[i + 1]] * tree.leaf_width(),
                      std::min<int64_t>(tree.leaf_width(), 4));
      answer(tree, leaf[token[i]], padded[token[i]], y + token[i] * tree.outputs());
    }
  });
}

void forest_feed_forward(const NodeForest& forest, const float* x, int64_t batch, float* y,
                         ThreadPool& threads) {
  require(forest.depth >= 0 && forest.depth <= 24 && forest.trees >= 0 &&
              forest.key.rows == forest.trees * forest.nodes() &&
              forest.value.rows == forest.key.rows,
          "forest: {} keys and {} values, expected {} trees of depth {}", forest.key.rows,
          forest.value.rows, forest.trees, forest.depth);
  const Padded padded(x, batch, forest.width());
  for_items(gemm_kernels_f32(), batch, threads, [&](int64_t b) {
    thread_local std::vector<float> hidden;
    thread_local std::vector<int64_t> rows;
    rows.clear(), hidden.clear();
    for (int64_t tree = 0; tree < forest.trees; ++tree) {
      int64_t node = 0;
      for (int64_t level = 0; level <= forest.depth; ++level) {
        rows.push_back(tree * forest.nodes() + node);
        prefetch(forest.key, rows.back(), level > 0 ? kGuessed : 0, kWhole);
        if (level < forest.depth)
          for (const int64_t child : {node + 1, node + 2})
            prefetch(forest.key, rows.back() + child, 0, kGuessed);
        // Memory is idle while a decision waits for its row.
        prefetch(forest.value, rows.back(), 0, kWhole);
        const float score = HWY_DYNAMIC_DISPATCH(DotOne)(forest.key, rows.back(), padded[b]) +
                            (forest.key_bias ? forest.key_bias[rows.back()] : 0);
        hidden.push_back(score);
        node = 2 * node + 1 + (score > 0);
      }
    }
    const auto count = static_cast<int64_t>(hidden.size());
    apply_law(forest.law, hidden.data(), count, hidden.data());
    add_values(forest.value, nullptr, hidden.data(), rows.data(), count, y + b * forest.outputs(),
               0, forest.outputs());
  });
}

}  // namespace cajal
#endif
