#include "cajal/core/timing.h"

#include <sys/resource.h>

#include <algorithm>

#include "cajal/core/error.h"

namespace cajal {

double median(std::vector<double> values) {
  require(!values.empty(), "median of no values");
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  return values.size() % 2 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

double InterleavedTimes::median_seconds(size_t candidate) const {
  return median(seconds.at(candidate));
}

double InterleavedTimes::ratio(size_t a, size_t b) const {
  std::vector<double> ratios;
  for (size_t round = 0; round < seconds.at(a).size(); ++round)
    ratios.push_back(seconds[a][round] / seconds.at(b)[round]);
  return median(ratios);
}

InterleavedTimes time_interleaved(const std::vector<std::function<void()>>& candidates, int rounds,
                                  int warm_up) {
  InterleavedTimes times;
  times.seconds.resize(candidates.size());
  for (int round = -warm_up; round < rounds; ++round) {
    for (size_t i = 0; i < candidates.size(); ++i) {
      const Stopwatch watch;
      candidates[i]();
      if (round >= 0) times.seconds[i].push_back(watch.seconds());
    }
  }
  return times;
}

int64_t peak_memory_bytes() {
  struct rusage usage {};
  ::getrusage(RUSAGE_SELF, &usage);
  return int64_t{usage.ru_maxrss} * 1024;
}

}  // namespace cajal
