#include "cajal/kernels/limits.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "cajal/core/timing.h"
#include "cajal/kernels/memory.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cajal/kernels/limits.cpp"
#include "cajal/kernels/simd_targets.h"
// After the choice of targets.
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace cajal {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// Reads `bytes`, a multiple of 256, as four streams at once; returns something made of them all.
uint64_t ReadFourStreams(const std::byte* data, size_t bytes) {
  const hn::ScalableTag<uint64_t> d;
  constexpr size_t line = 64, ahead = 1024;
  const size_t stream = bytes / 4, step = hn::Lanes(d);
  auto sum0 = hn::Zero(d), sum1 = sum0, sum2 = sum0, sum3 = sum0;
  for (size_t i = 0; i < stream; i += line) {
    const auto* at = reinterpret_cast<const uint64_t*>(data + i);
    const size_t next = stream / sizeof *at;
    for (size_t k = 0; k < 4; ++k) __builtin_prefetch(data + k * stream + i + ahead, 0, 2);
    for (size_t j = 0; j < line / sizeof *at; j += step) {
      sum0 = hn::Add(sum0, hn::LoadU(d, at + j));
      sum1 = hn::Add(sum1, hn::LoadU(d, at + j + next));
      sum2 = hn::Add(sum2, hn::LoadU(d, at + j + 2 * next));
      sum3 = hn::Add(sum3, hn::LoadU(d, at + j + 3 * next));
    }
  }
  return hn::GetLane(hn::SumOfLanes(d, hn::Add(hn::Add(sum0, sum1), hn::Add(sum2, sum3))));
}

}  // namespace HWY_NAMESPACE
}  // namespace cajal
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cajal {

HWY_EXPORT(ReadFourStreams);

double read_bandwidth(ThreadPool& threads, std::span<const std::byte> memory) {
  const auto parts = static_cast<size_t>(threads.size());
  const size_t part = memory.size() / parts / 256 * 256;
  std::vector<uint64_t> sums(parts);  // kept, so that no compiler drops the reading
  const Stopwatch watch;
  threads.run([&](int i) {
    sums[i] = HWY_DYNAMIC_DISPATCH(ReadFourStreams)(memory.data() + i * part, part);
  });
  const double seconds = watch.seconds();
  [[maybe_unused]] volatile uint64_t sink = std::accumulate(sums.begin(), sums.end(), uint64_t{0});
  return static_cast<double>(part * parts) / seconds;
}

double measure_read_bandwidth(ThreadPool& threads, size_t bytes, int rounds) {
  WeightMemory memory(bytes);
  std::fill_n(memory.data(), bytes, std::byte{1});  // untouched pages would share one frame
  double best = 0;
  for (int round = 0; round < rounds; ++round)
    best = std::max(best, read_bandwidth(threads, {memory.data(), bytes}));
  return best;
}

}  // namespace cajal
#endif
