#include "columns.cuh"
#include "transformer.h"

namespace cajal::cuda {
namespace {

constexpr int kThreads = 256;

// One row is held in registers by kWarps warps of the block, kChunks packs of 8 a lane.
template <int kWarps>
struct RowGroup {
  static constexpr int kRows = kThreads / 32 / kWarps;  // rows that a block holds at a time
  static constexpr int kLanes = 32 * kWarps;
  int row = threadIdx.x / kLanes, lane = threadIdx.x % kLanes;

  /// Sums over the group's threads; every thread of the block must call it.
  __device__ float sum(float value) const {
    value = warp_sum(value);
    if constexpr (kWarps == 1) {
      return value;
    } else {
      __shared__ float warps[kThreads / 32];
      __syncthreads();
      if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = value;
      __syncthreads();
      float total = 0;
#pragma unroll
      for (int i = 0; i < kWarps; ++i) total += warps[row * kWarps + i];
      return total;
    }
  }
};

struct Forward {
  const bf16 *x, *delta, *delta_bias, *weight, *bias;
  NormKind kind;
  float epsilon;
  int64_t rows;
  int width;
  bf16 *sum, *y;
  float* stats;
};

template <int kWarps, int kChunks>
__global__ void __launch_bounds__(kThreads) add_norm_kernel(const Forward a) {
  using Group = RowGroup<kWarps>;
  const Group group;
  const int64_t row = blockIdx.x * static_cast<int64_t>(Group::kRows) + group.row;
  const bool active = row < a.rows;
  float value[kChunks][kPack];
  float total = 0;
#pragma unroll
  for (int c = 0; c < kChunks; ++c) {
    const int column = (c * Group::kLanes + group.lane) * kPack;
#pragma unroll
    for (int i = 0; i < kPack; ++i) value[c][i] = 0;
    if (!active || column >= a.width) continue;
    const int64_t at = row * a.width + column;
    load(a.x + at, value[c]);
    if (a.delta != nullptr) {
      float more[kPack];
      load(a.delta + at, more);
#pragma unroll
      for (int i = 0; i < kPack; ++i) value[c][i] += more[i];
      if (a.delta_bias != nullptr) {
        load(a.delta_bias + column, more);
#pragma unroll
        for (int i = 0; i < kPack; ++i) value[c][i] += more[i];
      }
      // The norm is taken of what is stored, so that backward sees the same numbers.
#pragma unroll
      for (int i = 0; i < kPack; ++i)
        value[c][i] = __bfloat162float(__float2bfloat16_rn(value[c][i]));
      store(a.sum + at, value[c]);
    }
#pragma unroll
    for (int i = 0; i < kPack; ++i) total += value[c][i];
  }
  float mean = 0;
  if (a.kind == NormKind::layer) mean = group.sum(total) / a.width;
  float square = 0;
#pragma unroll
  for (int c = 0; c < kChunks; ++c) {
    const int column = (c * Group::kLanes + group.lane) * kPack;
    if (column >= a.width) continue;
#pragma unroll
    for (int i = 0; i < kPack; ++i) square += (value[c][i] - mean) * (value[c][i] - mean);
  }
  const float inverse = rsqrtf(group.sum(square) / a.width + a.epsilon);
  if (!active) return;
  if (group.lane == 0) {
    a.stats[2 * row] = mean;
    a.stats[2 * row + 1] = inverse;
  }
  const float plus = a.kind == NormKind::rms_one_plus ? 1.f : 0.f;
#pragma unroll
  for (int c = 0; c < kChunks; ++c) {
    const int column = (c * Group::kLanes + group.lane) * kPack;
    if (column >= a.width) continue;
    float out[kPack], parameter[kPack];
#pragma unroll
    for (int i = 0; i < kPack; ++i) out[i] = (value[c][i] - mean) * inverse;
    if (a.weight != nullptr) {
      load(a.weight + column, parameter);
#pragma unroll
      for (int i = 0; i < kPack; ++i) out[i] *= parameter[i] + plus;
    }
    if (a.bias != nullptr) {
      load(a.bias + column, parameter);
#pragma unroll
      for (int i = 0; i < kPack; ++i) out[i] += parameter[i];
    }
    store(a.y + row * a.width + column, out);
  }
}

struct Backward {
  const bf16 *dy, *dsum, *sum;
  const float* stats;
  const bf16* weight;
  NormKind kind;
  int64_t rows;
  int width;
  bf16* dx;
  float* partial;  // [blocks, 3, width]: weight, bias, delta_bias
};

// Adds the block's row groups up in order and writes one row of `partial`.
template <int kWarps, int kChunks>
__device__ void write_partial(const RowGroup<kWarps>& group, const float (&sum)[kChunks][kPack],
                              int width, float* out) {
  using Group = RowGroup<kWarps>;
  if constexpr (Group::kRows == 1) {
#pragma unroll
    for (int c = 0; c < kChunks; ++c) {
      const int column = (c * Group::kLanes + group.lane) * kPack;
      if (column >= width) continue;
#pragma unroll
      for (int i = 0; i < kPack; ++i) out[column + i] = sum[c][i];
    }
  } else {
    __shared__ float total[kChunks * Group::kLanes * kPack];
    for (int turn = 0; turn < Group::kRows; ++turn) {
      __syncthreads();
      if (group.row != turn) continue;
#pragma unroll
      for (int c = 0; c < kChunks; ++c)
#pragma unroll
        for (int i = 0; i < kPack; ++i) {
          float& cell = total[(c * Group::kLanes + group.lane) * kPack + i];
          cell = turn == 0 ? sum[c][i] : cell + sum[c][i];
        }
    }
    __syncthreads();
    for (int column = threadIdx.x; column < width; column += kThreads) out[column] = total[column];
  }
}

template <int kWarps, int kChunks>
__global__ void __launch_bounds__(kThreads) add_norm_backward_kernel(const Backward a) {
  using Group = RowGroup<kWarps>;
  const Group group;
  float d_weight[kChunks][kPack] = {}, d_bias[kChunks][kPack] = {}, d_delta[kChunks][kPack] = {};
  const float plus = a.kind == NormKind::rms_one_plus ? 1.f : 0.f;
  const int64_t step = static_cast<int64_t>(gridDim.x) * Group::kRows;
  // All groups of the block go round equally often, because they meet in group.sum.
  for (int64_t first = blockIdx.x * static_cast<int64_t>(Group::kRows); first < a.rows;
       first += step) {
    const int64_t row = first + group.row;
    const bool active = row < a.rows;
    const float mean = active ? a.stats[2 * row] : 0, inverse = active ? a.stats[2 * row + 1] : 0;
    float normed[kChunks][kPack], scaled[kChunks][kPack];
    float dot = 0, total = 0;
#pragma unroll
    for (int c = 0; c < kChunks; ++c) {
      const int column = (c * Group::kLanes + group.lane) * kPack;
#pragma unroll
      for (int i = 0; i < kPack; ++i) normed[c][i] = scaled[c][i] = 0;
      if (!active || column >= a.width) continue;
      const int64_t at = row * a.width + column;
      float dy[kPack], weight[kPack];
      load(a.sum + at, normed[c]);
      load(a.dy + at, dy);
      if (a.weight != nullptr) load(a.weight + column, weight);
#pragma unroll
      for (int i = 0; i < kPack; ++i) {
        normed[c][i] = (normed[c][i] - mean) * inverse;
        scaled[c][i] = a.weight != nullptr ? dy[i] * (weight[i] + plus) : dy[i];
        d_weight[c][i] += dy[i] * normed[c][i];
        d_bias[c][i] += dy[i];
        dot += scaled[c][i] * normed[c][i];
        total += scaled[c][i];
      }
    }
    dot = group.sum(dot) / a.width;
    total = a.kind == NormKind::layer ? group.sum(total) / a.width : 0;
    if (!active) continue;
#pragma unroll
    for (int c = 0; c < kChunks; ++c) {
      const int column = (c * Group::kLanes + group.lane) * kPack;
      if (column >= a.width) continue;
      const int64_t at = row * a.width + column;
      float dx[kPack];
      if (a.dsum != nullptr) load(a.dsum + at, dx);
#pragma unroll
      for (int i = 0; i < kPack; ++i) {
        const float through = inverse * (scaled[c][i] - total - normed[c][i] * dot);
        dx[i] = a.dsum != nullptr ? dx[i] + through : through;
        d_delta[c][i] += dx[i];
      }
      store(a.dx + at, dx);
    }
  }
  float* out = a.partial + static_cast<int64_t>(blockIdx.x) * 3 * a.width;
  write_partial(group, d_weight, a.width, out);
  write_partial(group, d_bias, a.width, out + a.width);
  write_partial(group, d_delta, a.width, out + 2 * a.width);
}

int backward_blocks(int64_t rows, int rows_per_block) {
  const int64_t wanted = divide_up(rows, rows_per_block);
  return static_cast<int>(wanted < 2 * multiprocessors() ? wanted : 2 * multiprocessors());
}

// Calls body<kWarps, kChunks>() with the smallest shape that holds a row.
template <class Body>
void dispatch_width(int width, const Body& body) {
  if (width <= 256) return body.template operator()<1, 1>();
  if (width <= 512) return body.template operator()<1, 2>();
  if (width <= 768) return body.template operator()<1, 3>();
  if (width <= 1024) return body.template operator()<1, 4>();
  if (width <= 2048) return body.template operator()<2, 4>();
  if (width <= 4096) return body.template operator()<4, 4>();
  body.template operator()<8, 4>();
}

struct LaunchForward {
  const Forward& a;
  cudaStream_t stream;
  template <int kWarps, int kChunks>
  void operator()() const {
    const int64_t blocks = divide_up(a.rows, RowGroup<kWarps>::kRows);
    add_norm_kernel<kWarps, kChunks><<<static_cast<unsigned>(blocks), kThreads, 0, stream>>>(a);
  }
};

struct LaunchBackward {
  const Backward& a;
  int& blocks;
  cudaStream_t stream;
  template <int kWarps, int kChunks>
  void operator()() const {
    blocks = backward_blocks(a.rows, RowGroup<kWarps>::kRows);
    add_norm_backward_kernel<kWarps, kChunks><<<blocks, kThreads, 0, stream>>>(a);
  }
};

}  // namespace

void add_norm(const bf16* x, const bf16* delta, const bf16* delta_bias, const bf16* weight,
              const bf16* bias, NormKind kind, float epsilon, int64_t rows, int width, bf16* sum,
              bf16* y, float* stats, cudaStream_t stream) {
  if (rows == 0) return;
  const Forward a{x, delta, delta_bias, weight, bias, kind, epsilon, rows, width, sum, y, stats};
  dispatch_width(width, LaunchForward{a, stream});
  check_launch("add_norm");
}

int64_t norm_workspace(int64_t rows, int width) {
  return static_cast<int64_t>(backward_blocks(rows, 1)) * 3 * width;
}

void add_norm_backward(const bf16* dy, const bf16* dsum, const bf16* sum, const float* stats,
                       const bf16* weight, NormKind kind, int64_t rows, int width, bf16* dx,
                       bf16* d_weight, bf16* d_bias, bf16* d_delta_bias, float* workspace,
                       cudaStream_t stream) {
  if (rows == 0) {
    for (bf16* out : {d_weight, d_bias, d_delta_bias})
      if (out != nullptr) cudaMemsetAsync(out, 0, width * sizeof(bf16), stream);
    return;
  }
  const Backward a{dy, dsum, sum, stats, weight, kind, rows, width, dx, workspace};
  int blocks = 0;
  dispatch_width(width, LaunchBackward{a, blocks, stream});
  check_launch("add_norm_backward");
  if (d_weight != nullptr || d_bias != nullptr || d_delta_bias != nullptr)
    finish_columns(workspace, blocks, 3 * width, width, {{d_weight, d_bias, d_delta_bias}}, stream);
}

}  // namespace cajal::cuda
