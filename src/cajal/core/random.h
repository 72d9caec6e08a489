#pragma once
#include <cstddef>
#include <cstdint>
#include <utility>

namespace cajal {

/// Hash of a number whose bits all depend on all of its bits (SplitMix64).
uint64_t split_mix(uint64_t x);

/// Small random generator (xoshiro256**): the same seed gives the same numbers on every machine and
/// standard library. `stream` makes independent sequences of one seed.
class Random {
 public:
  explicit Random(uint64_t seed, uint64_t stream = 0);

  uint64_t next();
  double uniform();                // in [0, 1)
  double normal();                 // mean 0, variance 1
  uint64_t below(uint64_t count);  // in [0, count), without bias; count > 0

 private:
  uint64_t state_[4];
  double spare_ = 0;
  bool has_spare_ = false;
};

/// Every order of the values (a vector, array or span) is as likely as any other.
template <class Values>
void shuffle(Values& values, Random& random) {
  for (size_t i = values.size(); i > 1; --i) std::swap(values[i - 1], values[random.below(i)]);
}

}  // namespace cajal
