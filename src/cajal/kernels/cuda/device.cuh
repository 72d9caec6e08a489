#pragma once
#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <stdexcept>
#include <string>

// What every kernel here shares: eight bf16 values at a time, sums over a warp, launch errors.
namespace cajal::cuda {

using bf16 = __nv_bfloat16;

constexpr int kPack = 8;  // bf16 values in one 16-byte access

/// Eight bf16 values as they lie in memory.
struct Packed {
  uint32_t pair[4];
};

__device__ inline Packed load_packed(const bf16* from) {
  const uint4 bits = *reinterpret_cast<const uint4*>(from);
  return {{bits.x, bits.y, bits.z, bits.w}};
}

__device__ inline void widen(const Packed& packed, float (&out)[kPack]) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {  // a bf16 is the upper half of a float
    out[2 * i] = __uint_as_float(packed.pair[i] << 16);
    out[2 * i + 1] = __uint_as_float(packed.pair[i] & 0xffff0000u);
  }
}

__device__ inline void load(const bf16* from, float (&out)[kPack]) {
  widen(load_packed(from), out);
}

__device__ inline uint32_t narrow(float low, float high) {
  return static_cast<uint32_t>(__bfloat16_as_ushort(__float2bfloat16_rn(low))) |
         static_cast<uint32_t>(__bfloat16_as_ushort(__float2bfloat16_rn(high))) << 16;
}

__device__ inline void store(bf16* to, const float (&in)[kPack]) {
  *reinterpret_cast<uint4*>(to) = {narrow(in[0], in[1]), narrow(in[2], in[3]), narrow(in[4], in[5]),
                                   narrow(in[6], in[7])};
}

__device__ inline float warp_sum(float value) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2)
    value += __shfl_xor_sync(0xffffffff, value, distance);
  return value;
}

__device__ inline float warp_max(float value) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2)
    value = fmaxf(value, __shfl_xor_sync(0xffffffff, value, distance));
  return value;
}

inline int multiprocessors() {
  static const int count = [] {
    int device = 0, value = 0;
    cudaGetDevice(&device);
    cudaDeviceGetAttribute(&value, cudaDevAttrMultiProcessorCount, device);
    return value > 0 ? value : 1;
  }();
  return count;
}

/// Throws when the launch just made was refused.
inline void check_launch(const char* kernel) {
  const cudaError_t error = cudaGetLastError();
  if (error != cudaSuccess)
    throw std::runtime_error(std::string("CUDA kernel ") + kernel + ": " +
                             cudaGetErrorString(error));
}

inline int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace cajal::cuda
