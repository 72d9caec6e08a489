#pragma once
#include <functional>
#include <vector>

#include "cajal/core/threads.h"
#include "cajal/core/timing.h"
#include "cajal/kernels/memory.h"

namespace cajal {

/// While it lives each thread of the pool stays on a processor of its own, so that a busy neighbour
/// cannot push two of them onto one.
class Pinned {
 public:
  explicit Pinned(ThreadPool& threads);
  ~Pinned();
  Pinned(const Pinned&) = delete;
  Pinned& operator=(const Pinned&) = delete;

 private:
  std::vector<unsigned char> before_;  // a cpu_set_t
};

/// Times of candidates that find the caches full of something else, and the rate at which the
/// machine read that something, from the same rounds.
struct ColdTimes {
  InterleavedTimes times;
  double read_limit = 0;  // bytes a second, the best reading
};

/// Times the candidates in turn, `rounds` times after one warm-up, each just after the threads have
/// read 512 MiB of other memory. A time is the mean of `calls` calls behind one another, which must
/// each read other weights: with few bytes a call, code that came from memory would count too.
ColdTimes time_cold(const std::vector<std::function<void()>>& candidates, int rounds, int calls,
                    ThreadPool& threads);

}  // namespace cajal
