#include "cajal/kernels/limits.h"

#include <algorithm>

#include "cajal/core/error.h"
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

double measure_read_bandwidth(ThreadPool& threads, size_t bytes, int rounds) {
  require(rounds > 0, "read bandwidth: expected at least one round, got {}", rounds);
  const auto parts = static_cast<size_t>(threads.size());
  const size_t part = std::max<size_t>(bytes / parts / 256 * 256, 256);
  WeightMemory memory(part * parts);
  std::fill_n(memory.data(), memory.size(), std::byte{1});  // untouched pages would share one frame
  std::vector<uint64_t> sums(parts);
  const auto read = [&](int i) {
    sums[i] = HWY_DYNAMIC_DISPATCH(ReadFourStreams)(memory.data() + i * part, part);
  };
  double best = 0;
  for (int round = 0; round <= rounds; ++round) {
    const Stopwatch watch;
    threads.run(read);
    const double rate = static_cast<double>(memory.size()) / watch.seconds();
    if (round > 0) best = std::max(best, rate);
  }
  for (const uint64_t sum : sums)
    require(sum == sums[0], "read bandwidth: threads read different bytes");
  return best;
}

}  // namespace cajal
#endif
