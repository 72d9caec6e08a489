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

#include "cajal/kernels/packed_dot-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cajal {
namespace HWY_NAMESPACE {

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

constexpr int kChains = 12;  // that depend on nothing of each other: enough to fill every unit

/// Fused multiply-adds; returns something made of them all.
float SpinF32(int64_t turns, float seed) {
  const auto a = hn::Set(pf, seed), b = hn::Set(pf, 1 - seed);
  VecF sum[kChains];
  for (int c = 0; c < kChains; ++c) sum[c] = hn::Set(pf, static_cast<float>(c));
  for (int64_t turn = 0; turn < turns; ++turn)
    for (auto& chain : sum) chain = hn::MulAdd(chain, a, b);
  for (int c = 1; c < kChains; ++c) sum[0] = hn::Add(sum[0], sum[c]);
  return hn::GetLane(hn::SumOfLanes(pf, sum[0]));
}

/// Products of bytes.
float SpinInt8(int64_t turns, float seed) {
  const auto a = hn::Set(pi, static_cast<int32_t>(seed * 0x01010101)), b = Bytes(3);
  VecI sum[kChains];
  for (int c = 0; c < kChains; ++c) sum[c] = hn::Set(pi, c);
  for (int64_t turn = 0; turn < turns; ++turn)
    for (auto& chain : sum) chain = DotBytes4(chain, a, b);
  for (int c = 1; c < kChains; ++c) sum[0] = hn::Add(sum[0], sum[c]);
  return static_cast<float>(hn::GetLane(hn::SumOfLanes(pi, sum[0])));
}

double SpinOperations() { return 2.0 * kChains * kPackLanes; }  // a turn of SpinF32

}  // namespace HWY_NAMESPACE
}  // namespace cajal
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cajal {

HWY_EXPORT(ReadFourStreams);
HWY_EXPORT(SpinF32);
HWY_EXPORT(SpinInt8);
HWY_EXPORT(SpinOperations);

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

ComputeLimits measure_compute(ThreadPool& threads, int rounds) {
  constexpr int64_t turns = 1 << 20;
  std::vector<float> sums(threads.size());  // kept, so that no compiler drops the sums
  const auto rate = [&](auto spin, double operations) {
    double best = 0;
    for (int round = 0; round < rounds; ++round) {
      const Stopwatch watch;
      threads.run([&](int part) { sums[part] += spin(0.5f + 0.1f * static_cast<float>(part)); });
      best = std::max(best, operations * turns * threads.size() / watch.seconds());
    }
    [[maybe_unused]] volatile float sink = std::accumulate(sums.begin(), sums.end(), 0.0f);
    return best;
  };
  const double operations = HWY_DYNAMIC_DISPATCH(SpinOperations)();
  ComputeLimits limits;
  limits.f32 =
      rate([](float seed) { return HWY_DYNAMIC_DISPATCH(SpinF32)(turns, seed); }, operations);
  limits.int8 =
      rate([](float seed) { return HWY_DYNAMIC_DISPATCH(SpinInt8)(turns, seed); }, 4 * operations);
  return limits;
}

}  // namespace cajal
#endif
