#include "device.cuh"
#include "optimizer.h"

namespace cajal::cuda {
namespace {

constexpr int kThreads = 256;

constexpr int kSlots = 96;       // of one launch: they travel as kernel arguments
constexpr int kSlotPart = 8192;  // elements that one block gathers

struct SlotList {
  GradientSlot slot[kSlots];
  int first_block[kSlots + 1];
};

__global__ void gather_kernel(const __grid_constant__ SlotList list, int count, float factor,
                              bool add, float* flat) {
  int low = 0, high = count;  // the slot whose blocks hold this one
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    (list.first_block[middle] <= static_cast<int>(blockIdx.x) ? low : high) = middle;
  }
  const GradientSlot& slot = list.slot[low];
  const int64_t begin = static_cast<int64_t>(blockIdx.x - list.first_block[low]) * kSlotPart;
  const int part =
      static_cast<int>(slot.count - begin < kSlotPart ? slot.count - begin : kSlotPart);
  float* to = flat + slot.offset + begin;
  const auto put = [&](int i, float value) {
    to[i] = add ? to[i] + factor * value : factor * value;
  };
  if (slot.source == nullptr) {
    if (!add)
      for (int i = threadIdx.x; i < part; i += kThreads) to[i] = 0;
  } else if (!slot.is_bf16) {
    const auto* from = static_cast<const float*>(slot.source) + begin;
    for (int i = threadIdx.x; i < part; i += kThreads) put(i, from[i]);
  } else {
    const auto* from = static_cast<const bf16*>(slot.source) + begin;
    const bool aligned = reinterpret_cast<uintptr_t>(from) % 16 == 0;
    const int packs = aligned ? part / kPack : 0;
    for (int pack = threadIdx.x; pack < packs; pack += kThreads) {
      float value[kPack];
      load(from + pack * kPack, value);
#pragma unroll
      for (int i = 0; i < kPack; ++i) put(pack * kPack + i, value[i]);
    }
    for (int i = packs * kPack + threadIdx.x; i < part; i += kThreads)
      put(i, __bfloat162float(from[i]));
  }
}

__device__ float block_sum(float value) {
  __shared__ float warps[kThreads / 32];
  value = warp_sum(value);
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = value;
  __syncthreads();
  return warp_sum(threadIdx.x % 32 < kThreads / 32 ? warps[threadIdx.x % 32] : 0.f);
}

__global__ void square_kernel(const float4* x, int64_t quads, float* partial) {
  float total = 0;
  for (int64_t i = blockIdx.x * static_cast<int64_t>(kThreads) + threadIdx.x; i < quads;
       i += static_cast<int64_t>(gridDim.x) * kThreads) {
    const float4 v = x[i];
    total += v.x * v.x + v.y * v.y + v.z * v.z + v.w * v.w;
  }
  total = block_sum(total);
  if (threadIdx.x == 0) partial[blockIdx.x] = total;
}

__global__ void factor_kernel(const float* partial, float limit, float* norm_and_factor) {
  float total = 0;
  for (int i = threadIdx.x; i < kNormBlocks; i += kThreads) total += partial[i];
  total = block_sum(total);
  if (threadIdx.x != 0) return;
  const float norm = sqrtf(total);
  norm_and_factor[0] = norm;
  norm_and_factor[1] = limit > 0 && norm > limit ? limit / norm : 1.f;
}

struct Pointers {
  float *value, *first, *second, *average;
  bf16* working;
  const float* gradient;
};

__global__ void adamw_kernel(const Pointers p, int64_t quads, int64_t decayed, const AdamW c,
                             const StepRates* rates, const float* factor) {
  const StepRates r = *rates;
  const float clip = *factor;
  for (int64_t quad = blockIdx.x * static_cast<int64_t>(kThreads) + threadIdx.x; quad < quads;
       quad += static_cast<int64_t>(gridDim.x) * kThreads) {
    const auto at = [quad](auto* base) { return reinterpret_cast<float4*>(base) + quad; };
    float4 value4 = *at(p.value), first4 = *at(p.first), second4 = *at(p.second);
    const float4 gradient4 = reinterpret_cast<const float4*>(p.gradient)[quad];
    const float keep = 4 * quad < decayed ? 1 - r.rate * c.weight_decay : 1.f;
    const auto update = [&](float& value, float& first, float& second, float gradient) {
      gradient *= clip;
      first += (1 - c.beta1) * (gradient - first);
      second += (1 - c.beta2) * (gradient * gradient - second);
      value = value * keep - r.rate * (first * r.first) / (sqrtf(second * r.second) + c.epsilon);
    };
    update(value4.x, first4.x, second4.x, gradient4.x);
    update(value4.y, first4.y, second4.y, gradient4.y);
    update(value4.z, first4.z, second4.z, gradient4.z);
    update(value4.w, first4.w, second4.w, gradient4.w);
    *at(p.value) = value4, *at(p.first) = first4, *at(p.second) = second4;
    if (p.working != nullptr)
      reinterpret_cast<uint2*>(p.working)[quad] = {narrow(value4.x, value4.y),
                                                   narrow(value4.z, value4.w)};
    if (p.average != nullptr) {
      float4 average4 = *at(p.average);
      average4.x += r.average * (value4.x - average4.x);
      average4.y += r.average * (value4.y - average4.y);
      average4.z += r.average * (value4.z - average4.z);
      average4.w += r.average * (value4.w - average4.w);
      *at(p.average) = average4;
    }
  }
}

}  // namespace

void gather_gradients(const GradientSlot* slots, int count, float factor, bool add, float* flat,
                      cudaStream_t stream) {
  for (int done = 0; done < count; done += kSlots) {
    const int here = count - done < kSlots ? count - done : kSlots;
    SlotList list{};
    for (int i = 0; i < here; ++i) {
      list.slot[i] = slots[done + i];
      list.first_block[i + 1] =
          list.first_block[i] + static_cast<int>(divide_up(slots[done + i].count, kSlotPart));
    }
    if (list.first_block[here] == 0) continue;
    gather_kernel<<<list.first_block[here], kThreads, 0, stream>>>(list, here, factor, add, flat);
    check_launch("gather_gradients");
  }
}

void clip_factor(const float* x, int64_t count, float limit, float* norm_and_factor,
                 float* workspace, cudaStream_t stream) {
  square_kernel<<<kNormBlocks, kThreads, 0, stream>>>(reinterpret_cast<const float4*>(x), count / 4,
                                                      workspace);
  factor_kernel<<<1, kThreads, 0, stream>>>(workspace, limit, norm_and_factor);
  check_launch("clip_factor");
}

void adamw(float* value, float* first, float* second, float* average, bf16* working,
           const float* gradient, int64_t count, int64_t decayed, const AdamW& constants,
           const StepRates* rates, const float* factor, cudaStream_t stream) {
  const int64_t quads = count / 4;
  if (quads == 0) return;
  const int64_t blocks = divide_up(quads, kThreads), most = multiprocessors() * 8;
  adamw_kernel<<<static_cast<unsigned>(blocks < most ? blocks : most), kThreads, 0, stream>>>(
      Pointers{value, first, second, average, working, gradient}, quads, decayed, constants, rates,
      factor);
  check_launch("adamw");
}

}  // namespace cajal::cuda
