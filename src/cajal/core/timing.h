#pragma once
#include <chrono>
#include <cstdint>
#include <functional>
#include <vector>

namespace cajal {

/// Seconds since it was made.
class Stopwatch {
 public:
  double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count();
  }

 private:
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
};

/// The middle value (mean of the two middle ones for an even count); throws Error when empty.
double median(std::vector<double> values);

struct InterleavedTimes {
  std::vector<std::vector<double>> seconds;  // [candidate][round]

  double median_seconds(size_t candidate) const;
  /// Median over rounds of time(a) / time(b), each pair taken in the same round.
  double ratio(size_t a, size_t b) const;
};

/// Times the candidates in turn, A B A B ..., `rounds` times after `warm_up` rounds that are not
/// counted, so that drift of the machine's speed falls on all alike.
InterleavedTimes time_interleaved(const std::vector<std::function<void()>>& candidates, int rounds,
                                  int warm_up = 1);

/// Peak resident memory of this process so far, in bytes.
int64_t peak_memory_bytes();

}  // namespace cajal
