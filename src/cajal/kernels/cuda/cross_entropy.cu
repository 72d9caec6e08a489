#include "device.cuh"
#include "transformer.h"

namespace cajal::cuda {
namespace {

constexpr int kThreads = 512;
constexpr int64_t kIgnored = -100;

constexpr int kWarps = kThreads / 32;
static_assert(kWarps <= 32, "one warp must hold a value of each");

// The same results on every thread; sums in a fixed order.
__device__ float block_max(float value) {
  __shared__ float warps[kWarps];
  value = warp_max(value);
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = value;
  __syncthreads();
  value = warp_max(threadIdx.x % 32 < kWarps ? warps[threadIdx.x % 32] : -INFINITY);
  __syncthreads();
  return value;
}

__device__ float block_sum(float value) {
  __shared__ float warps[kWarps];
  value = warp_sum(value);
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = value;
  __syncthreads();
  value = warp_sum(threadIdx.x % 32 < kWarps ? warps[threadIdx.x % 32] : 0.f);
  __syncthreads();
  return value;
}

// One row a block, held in registers: read once, its gradient written once.
template <int kChunks>
__global__ void __launch_bounds__(kThreads)
    row_kernel(const bf16* logits, const int64_t* targets, int classes, const float* inverse_count,
               float* losses, bf16* gradient) {
  const int64_t row = blockIdx.x, target = targets[row];
  const bf16* from = logits + row * classes;
  Packed packed[kChunks];
  float top = -INFINITY;
#pragma unroll
  for (int c = 0; c < kChunks; ++c) {
    const int column = (c * kThreads + threadIdx.x) * kPack;
    if (column >= classes) continue;
    packed[c] = load_packed(from + column);
    float value[kPack];
    widen(packed[c], value);
#pragma unroll
    for (int i = 0; i < kPack; ++i) top = fmaxf(top, value[i]);
  }
  top = block_max(top);
  float total = 0;
#pragma unroll
  for (int c = 0; c < kChunks; ++c) {
    const int column = (c * kThreads + threadIdx.x) * kPack;
    if (column >= classes) continue;
    float value[kPack];
    widen(packed[c], value);
#pragma unroll
    for (int i = 0; i < kPack; ++i) total += __expf(value[i] - top);
  }
  total = block_sum(total);
  const float log_total = top + logf(total);
  if (threadIdx.x == 0) {
    const bool in_range = target >= 0 && target < classes;
    losses[row] = target == kIgnored ? 0.f
                  : in_range         ? log_total - __bfloat162float(from[target])
                                     : NAN;
  }
  if (gradient == nullptr) return;
  const float factor = target == kIgnored ? 0.f : *inverse_count;
#pragma unroll
  for (int c = 0; c < kChunks; ++c) {
    const int column = (c * kThreads + threadIdx.x) * kPack;
    if (column >= classes) continue;
    float value[kPack];
    widen(packed[c], value);
#pragma unroll
    for (int i = 0; i < kPack; ++i)
      value[i] = factor * (__expf(value[i] - log_total) - (column + i == target ? 1.f : 0.f));
    store(gradient + row * classes + column, value);
  }
}

__global__ void __launch_bounds__(kThreads)
    count_kernel(const int64_t* targets, int64_t rows, float* inverse_count) {
  float count = 0;
  for (int64_t row = threadIdx.x; row < rows; row += kThreads) count += targets[row] != kIgnored;
  count = block_sum(count);
  if (threadIdx.x == 0) *inverse_count = 1 / count;
}

__global__ void __launch_bounds__(kThreads)
    mean_kernel(const float* losses, int64_t rows, const float* inverse_count, float* loss) {
  float total = 0;
  for (int64_t row = threadIdx.x; row < rows; row += kThreads) total += losses[row];
  total = block_sum(total);
  if (threadIdx.x == 0) *loss = total * *inverse_count;
}

__global__ void scale_kernel(bf16* x, int64_t packs, const float* factor) {
  const float by = *factor;
  if (by == 1) return;
  for (int64_t at = blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x; at < packs;
       at += static_cast<int64_t>(gridDim.x) * blockDim.x) {
    float value[kPack];
    load(x + at * kPack, value);
#pragma unroll
    for (int i = 0; i < kPack; ++i) value[i] *= by;
    store(x + at * kPack, value);
  }
}

}  // namespace

void cross_entropy(const bf16* logits, const int64_t* targets, int64_t rows, int classes,
                   float* loss, bf16* gradient, float* workspace, cudaStream_t stream) {
  float *inverse_count = workspace, *losses = workspace + 1;
  count_kernel<<<1, kThreads, 0, stream>>>(targets, rows, inverse_count);
  if (rows > 0) {
    const auto blocks = static_cast<unsigned>(rows);
    const auto run = [&](auto kernel) {
      kernel<<<blocks, kThreads, 0, stream>>>(logits, targets, classes, inverse_count, losses,
                                              gradient);
    };
    if (classes <= kThreads * kPack)
      run(row_kernel<1>);
    else if (classes <= 2 * kThreads * kPack)
      run(row_kernel<2>);
    else if (classes <= 4 * kThreads * kPack)
      run(row_kernel<4>);
    else if (classes <= 8 * kThreads * kPack)
      run(row_kernel<8>);
    else
      run(row_kernel<16>);
  }
  mean_kernel<<<1, kThreads, 0, stream>>>(losses, rows, inverse_count, loss);
  check_launch("cross_entropy");
}

void scale(bf16* x, int64_t count, const float* factor, cudaStream_t stream) {
  const int64_t packs = count / kPack, blocks = divide_up(packs, 256),
                most = multiprocessors() * 16;
  if (packs == 0) return;
  scale_kernel<<<static_cast<unsigned>(blocks < most ? blocks : most), 256, 0, stream>>>(x, packs,
                                                                                         factor);
  check_launch("scale");
}

}  // namespace cajal::cuda
