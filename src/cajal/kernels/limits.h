#pragma once
#include <cstddef>
#include <span>

#include "cajal/core/threads.h"

namespace cajal {

/// Rate in bytes a second at which the threads of the pool read `memory` once, four streams a
/// thread: over memory that no cache holds, no decoding can be faster than its bytes at this rate.
double read_bandwidth(ThreadPool& threads, std::span<const std::byte> memory);

/// The best of `rounds` such readings of `bytes` of fresh memory; let that be several times what
/// the caches hold. Throws Error when there is not that much memory.
double measure_read_bandwidth(ThreadPool& threads, size_t bytes = size_t{1} << 30, int rounds = 5);

/// Operations a second, multiplications and additions, that the threads of the pool do within
/// registers: no product that is computed this way can be faster.
struct ComputeLimits {
  double f32 = 0;   // fused multiply-add
  double int8 = 0;  // products of bytes into 32-bit sums, as packed matrices use them
};
ComputeLimits measure_compute(ThreadPool& threads, int rounds = 5);

}  // namespace cajal
