#include "cajal/kernels/gemm_feed_forward.h"

#include <algorithm>
#include <vector>

#include "cajal/core/error.h"
#include "cajal/kernels/gemm_kernels.h"

namespace cajal {
namespace {

constexpr int64_t kChunk = PackedActivations::kChunk;
constexpr int64_t kHiddenBytes = 16 << 20;  // of the jobs that are done together

/// Up to kChunk tokens that meet one group.
struct Job {
  int64_t row, neurons;                     // of the group
  int64_t begin, tokens;                    // of the list of tokens
  int64_t x_offset = 0, hidden_offset = 0;  // bytes
  int64_t vectors() const { return round_up(tokens, kTile); }
};

void check(const FeedForwardRows& block) {
  const auto &key = block.key, &gate = block.gate, &value = block.value;
  require(!gate.data || (gate.rows == key.rows && gate.width == key.width),
          "feed_forward: gate [{}, {}] and key [{}, {}] differ", gate.rows, gate.width, key.rows,
          key.width);
  const int64_t answered = block.layout == ValueLayout::by_neuron ? value.rows : value.width;
  require(answered == key.rows, "feed_forward: values of {} neurons, keys of {}", answered,
          key.rows);
}

void check(const FeedForwardRows& block, const TokenGroups& groups, int64_t batch) {
  require(!groups.rows.empty() && groups.rows.size() == groups.begin.size(),
          "feed_forward: {} borders of groups, {} of their tokens", groups.rows.size(),
          groups.begin.size());
  const int64_t align =
      block.layout == ValueLayout::by_output ? block_values(block.value.format) : 1;
  for (size_t g = 0; g + 1 < groups.rows.size(); ++g) {
    const int64_t first = groups.rows[g], last = groups.rows[g + 1];
    require(first >= 0 && first <= last && last <= block.neurons() && first % align == 0 &&
                (last - first) % align == 0,
            "feed_forward: group {} is neurons {} to {} of {}, in blocks of {}", g, first, last,
            block.neurons(), align);
    require(groups.begin[g] >= 0 && groups.begin[g] <= groups.begin[g + 1] &&
                groups.begin[g + 1] <= static_cast<int64_t>(groups.token.size()),
            "feed_forward: group {} has tokens {} to {} of {}", g, groups.begin[g],
            groups.begin[g + 1], groups.token.size());
  }
  for (const int32_t token : groups.token)
    require(token >= 0 && token < batch, "feed_forward: token {} of {}", token, batch);
}

/// The jobs of one round: packs their tokens, computes what their neurons answer, adds values.
class Round {
 public:
  Round(const FeedForwardRows& block, const GemmKernels& kernels, std::span<Job> jobs,
        const int32_t* token, const float* weight, const float* x, float* y, ThreadPool& threads)
      : block_(block),
        kernels_(kernels),
        jobs_(jobs),
        token_(token),
        weight_(weight),
        x_(x),
        y_(y),
        threads_(threads) {}

  void run() {
    thread_local Scratch packed, hidden;
    int64_t x_bytes = 0, hidden_bytes = 0;
    for (auto& job : jobs_) {
      job.x_offset = x_bytes, job.hidden_offset = hidden_bytes;
      x_bytes += job.vectors() * round_up(block_.width(), 32) * kernels_.value_bytes;
      hidden_bytes += job.vectors() * round_up(job.neurons, 32) * kernels_.value_bytes;
    }
    packed_ = packed.bytes(x_bytes), hidden_ = hidden.bytes(hidden_bytes);
    pack_tokens();
    compute_hidden();
    add_values();
  }

 private:
  int64_t token(int64_t pair) const { return token_ ? token_[pair] : pair; }

  void pack_tokens() {
    std::vector<std::pair<const Job*, int64_t>> tiles;
    for (const auto& job : jobs_)
      for (int64_t tile = 0; tile * kTile < job.tokens; ++tile) tiles.emplace_back(&job, tile);
    for_items(kernels_, static_cast<int64_t>(tiles.size()), threads_, [&](int64_t item) {
      const auto& [job, tile] = tiles[item];
      const float* of[kTile] = {};
      for (int64_t i = 0; i < std::min(kTile, job->tokens - tile * kTile); ++i)
        of[i] = x_ + token(job->begin + tile * kTile + i) * block_.width();
      pack_chunk_tile(kernels_, of, block_.width(), job->vectors(), tile, packed_ + job->x_offset);
    });
  }

  void compute_hidden() {
    // As many neurons at a time as give one panel of weights, fewer where threads would be idle.
    int64_t neurons = block_.gate.data ? kPanel / 2 : kPanel;
    std::vector<std::pair<const Job*, int64_t>> pieces;
    for (;; neurons /= 2) {
      pieces.clear();
      for (const auto& job : jobs_)
        for (int64_t first = 0; first < job.neurons; first += neurons)
          pieces.emplace_back(&job, first);
      if (neurons == 32 || static_cast<int>(pieces.size()) >= 4 * threads_.size()) break;
    }
    for_items(kernels_, static_cast<int64_t>(pieces.size()), threads_, [&](int64_t item) {
      const auto& [job, first] = pieces[item];
      compute_hidden(*job, first, std::min(neurons, job->neurons - first));
    });
  }

  /// Neurons [first, first + count) of a job's group, for all its tokens.
  void compute_hidden(const Job& job, int64_t first, int64_t count) {
    thread_local Scratch left_memory, sums_memory;
    const int64_t width = round_up(block_.width(), 32), vectors = job.vectors();
    const int64_t tiles = (count + kTile - 1) / kTile, stride = vectors + kTile;
    const int64_t padded = round_up(count, 32);
    uint8_t* const left = left_memory.bytes(kPanel * kDepth * sizeof(float));
    float* const keys = sums_memory.floats(2 * padded * stride);
    float* const gates = keys + padded * stride;
    const auto rows = RowSet::range(job.row + first, job.row + first + count);
    for (int64_t k = 0; k < width; k += kDepth) {
      const int64_t depth = std::min(kDepth, width - k);
      const auto multiply = [&](const RowMatrix& matrix, float* sums) {
        kernels_.pack_rows({matrix, rows, 0, count}, k, depth, left);
        kernels_.multiply(left, packed_ + job.x_offset + k * vectors * kernels_.value_bytes, tiles,
                          vectors / kTile, depth, k > 0, sums, stride);
      };
      multiply(block_.key, keys);
      if (block_.gate.data) multiply(block_.gate, gates);
    }
    for (int64_t i = 0; i < count; ++i) {
      float* const row = keys + i * stride;
      float* const argument = block_.gate.data ? gates + i * stride : row;
      if (block_.key_bias)
        for (int64_t t = 0; t < vectors; ++t) argument[t] += block_.key_bias[job.row + first + i];
      if (block_.gate.data) {
        apply_gate(block_.law, argument, row, vectors, row);
      } else {
        apply_law(block_.law, row, vectors, row);
      }
    }
    std::fill(keys + count * stride, keys + padded * stride, 0.0f);

    // Into the block of kDepth neurons that these are part of.
    const int64_t block = first / kDepth * kDepth;
    const int64_t depth = std::min(kDepth, round_up(job.neurons, 32) - block);
    const auto pack = block_.layout == ValueLayout::by_neuron ? kernels_.pack_hidden_left
                                                              : kernels_.pack_hidden_right;
    pack(keys, stride, padded, vectors / kTile, depth * kTile * kernels_.value_bytes,
         hidden_ + job.hidden_offset +
             (block * vectors + (first - block) * kTile) * kernels_.value_bytes);
  }

  void add_values() {
    const bool by_neuron = block_.layout == ValueLayout::by_neuron;
    // Panels of outputs: whole blocks of values, and some for every thread.
    const int64_t least = by_neuron ? std::max(64, block_values(block_.value.format)) : 64;
    int64_t panel = kPanel;
    while (panel > least && block_.outputs() < 4 * threads_.size() * panel) panel /= 2;
    for_items(kernels_, (block_.outputs() + panel - 1) / panel, threads_, [&](int64_t item) {
      const int64_t first = item * panel, count = std::min(panel, block_.outputs() - first);
      for (const auto& job : jobs_)
        by_neuron ? add_by_neuron(job, first, count) : add_by_output(job, first, count);
    });
  }

  void add_by_neuron(const Job& job, int64_t first, int64_t count) {
    thread_local Scratch right_memory, sums_memory;
    const int64_t columns = round_up(count, kTile), stride = columns + kTile;
    uint8_t* const right = right_memory.bytes(kPanel * kDepth * sizeof(float));
    float* const sums = sums_memory.floats(job.vectors() * stride);
    const auto rows = RowSet::range(job.row, job.row + job.neurons);
    const int64_t neurons = round_up(job.neurons, 32);
    for (int64_t k = 0; k < neurons; k += kDepth) {
      const int64_t depth = std::min(kDepth, neurons - k);
      kernels_.pack_columns({block_.value, rows, k, std::min(kDepth, job.neurons - k)}, first,
                            count, depth, right);
      kernels_.multiply_hidden(hidden(job, k), right, job.vectors() / kTile, columns / kTile, depth,
                               k > 0, sums, stride);
    }
    add(job, sums, stride, first, count);
  }

  void add_by_output(const Job& job, int64_t first, int64_t count) {
    thread_local Scratch left_memory, sums_memory;
    const int64_t tiles = (count + kTile - 1) / kTile, stride = job.vectors() + kTile;
    uint8_t* const left = left_memory.bytes(kPanel * kDepth * sizeof(float));
    float* const sums = sums_memory.floats(tiles * kTile * stride + job.tokens * kPanel);
    float* const turned = sums + tiles * kTile * stride;
    const RowMatrix& value = block_.value;
    const RowMatrix of_group{
        value.format, static_cast<const uint8_t*>(value.data) + row_bytes(value.format, job.row),
        value.rows, job.neurons, value.stride};
    const auto rows = RowSet::range(first, first + count);
    const int64_t neurons = round_up(job.neurons, 32);
    for (int64_t k = 0; k < neurons; k += kDepth) {
      const int64_t depth = std::min(kDepth, neurons - k);
      kernels_.pack_rows({of_group, rows, 0, count}, k, depth, left);
      kernels_.multiply(left, hidden(job, k), tiles, job.vectors() / kTile, depth, k > 0, sums,
                        stride);
    }
    kernels_.transpose(sums, stride, count, job.tokens, turned, kPanel);
    add(job, turned, kPanel, first, count);
  }

  const uint8_t* hidden(const Job& job, int64_t k) const {
    return hidden_ + job.hidden_offset + k * job.vectors() * kernels_.value_bytes;
  }

  void add(const Job& job, const float* sums, int64_t stride, int64_t first, int64_t count) {
    for (int64_t t = 0; t < job.tokens; ++t) {
      const float scale = weight_ ? weight_[job.begin + t] : 1;
      float* const to = y_ + token(job.begin + t) * block_.outputs() + first;
      for (int64_t c = 0; c < count; ++c) to[c] += scale * sums[t * stride + c];
    }
  }

  const FeedForwardRows& block_;
  const GemmKernels& kernels_;
  const std::span<Job> jobs_;
  const int32_t* const token_;
  const float* const weight_;
  const float* const x_;
  float* const y_;
  ThreadPool& threads_;
  uint8_t *packed_ = nullptr, *hidden_ = nullptr;
};

/// Runs jobs in rounds whose hidden values take about kHiddenBytes.
void run(const FeedForwardRows& block, std::vector<Job> jobs, const int32_t* token,
         const float* weight, const float* x, float* y, ThreadPool& threads, Precision precision) {
  const GemmKernels& kernels = gemm_kernels(precision);
  for (size_t first = 0; first < jobs.size();) {
    size_t last = first;
    for (int64_t bytes = 0; last < jobs.size(); ++last) {
      bytes += jobs[last].vectors() * (jobs[last].neurons + block.width()) * kernels.value_bytes;
      if (bytes > kHiddenBytes && last > first) break;
    }
    Round(block, kernels, std::span(jobs).subspan(first, last - first), token, weight, x, y,
          threads)
        .run();
    first = last;
  }
}

void append_jobs(std::vector<Job>& jobs, int64_t row, int64_t neurons, int64_t begin, int64_t end) {
  if (neurons == 0) return;
  for (; begin < end; begin += kChunk)
    jobs.push_back({row, neurons, begin, std::min(kChunk, end - begin)});
}

}  // namespace

void feed_forward_many(const FeedForwardRows& block, const float* x, int64_t batch, float* y,
                       ThreadPool& threads, Precision precision) {
  check(block);
  std::vector<Job> jobs;
  append_jobs(jobs, 0, block.neurons(), 0, batch);
  run(block, std::move(jobs), nullptr, nullptr, x, y, threads, precision);
}

void grouped_feed_forward(const FeedForwardRows& block, const TokenGroups& groups, const float* x,
                          int64_t batch, float* y, ThreadPool& threads, Precision precision) {
  check(block);
  check(block, groups, batch);
  std::vector<Job> jobs;
  for (size_t g = 0; g + 1 < groups.rows.size(); ++g)
    append_jobs(jobs, groups.rows[g], groups.rows[g + 1] - groups.rows[g], groups.begin[g],
                groups.begin[g + 1]);
  run(block, std::move(jobs), groups.token.data(), groups.weight, x, y, threads, precision);
}

}  // namespace cajal
