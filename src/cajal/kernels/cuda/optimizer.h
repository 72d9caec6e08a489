#pragma once
#include <cuda_bf16.h>
#include <cuda_runtime_api.h>

#include <cstdint>

// One optimiser step over parameters that lie in one flat fp32 vector, without waiting for the GPU:
// what changes from step to step is read from device memory, so a step can be a CUDA graph.
// Flat vectors are 16-byte aligned; every count is a multiple of 4.
namespace cajal::cuda {

using bf16 = __nv_bfloat16;

/// One parameter's gradient and its place in the flat vector.
struct GradientSlot {
  const void* source;  // contiguous bf16 or fp32; null: no gradient, counts as zero
  int64_t offset, count;
  bool is_bf16;
};

/// flat[offset ...] = factor * source of every slot, or += with `add`. `slots` is host memory and
/// is read before the call returns.
void gather_gradients(const GradientSlot* slots, int count, float factor, bool add, float* flat,
                      cudaStream_t stream);

/// norm_and_factor = {‖x‖, min(1, limit / ‖x‖)}; limit 0: factor 1. workspace: kNormBlocks floats.
constexpr int kNormBlocks = 1024;
void clip_factor(const float* x, int64_t count, float limit, float* norm_and_factor,
                 float* workspace, cudaStream_t stream);

/// What stays the same over a run.
struct AdamW {
  float beta1, beta2, epsilon, weight_decay;
};
/// What changes from step to step; lies in device memory.
struct StepRates {
  float rate;           // learning rate
  float first, second;  // 1 / (1 - beta1^t), 1 / (1 - beta2^t)
  float average;        // weight of the newest values in their moving average
};

/// AdamW on `count` values, the first `decayed` of them with weight decay; gradients are multiplied
/// by *factor. Writes the bf16 copy `working` and moves `average` where these are not null.
void adamw(float* value, float* first, float* second, float* average, bf16* working,
           const float* gradient, int64_t count, int64_t decayed, const AdamW& constants,
           const StepRates* rates, const float* factor, cudaStream_t stream);

}  // namespace cajal::cuda
