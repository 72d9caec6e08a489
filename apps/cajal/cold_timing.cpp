#include "cold_timing.h"

#include <sched.h>

#include <algorithm>
#include <cstring>

#include "cajal/kernels/limits.h"

namespace cajal {

Pinned::Pinned(ThreadPool& threads) : before_(sizeof(cpu_set_t)) {
  auto& before = *reinterpret_cast<cpu_set_t*>(before_.data());
  ::sched_getaffinity(0, sizeof before, &before);
  threads.run([&](int part) {
    cpu_set_t mine;
    CPU_ZERO(&mine);
    for (int cpu = 0, seen = 0; cpu < CPU_SETSIZE; ++cpu)
      if (CPU_ISSET(cpu, &before) && seen++ == part) CPU_SET(cpu, &mine);
    if (CPU_COUNT(&mine) > 0) ::sched_setaffinity(0, sizeof mine, &mine);
  });
}

Pinned::~Pinned() {
  ::sched_setaffinity(0, before_.size(), reinterpret_cast<const cpu_set_t*>(before_.data()));
}

ColdTimes time_cold(const std::vector<std::function<void()>>& candidates, int rounds, int calls,
                    ThreadPool& threads) {
  constexpr size_t kOther = size_t{512} << 20;
  static const WeightMemory other = [] {
    WeightMemory memory(kOther);
    std::memset(memory.data(), 1, kOther);  // untouched pages would share one frame
    return memory;
  }();
  ColdTimes cold;
  cold.times.seconds.resize(candidates.size());
  for (int round = -1; round < rounds; ++round)
    for (size_t i = 0; i < candidates.size(); ++i) {
      cold.read_limit = std::max(cold.read_limit, read_bandwidth(threads, {other.data(), kOther}));
      const Stopwatch watch;
      for (int call = 0; call < calls; ++call) candidates[i]();
      if (round >= 0) cold.times.seconds[i].push_back(watch.seconds() / calls);
    }
  return cold;
}

}  // namespace cajal
