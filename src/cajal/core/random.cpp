#include "cajal/core/random.h"

#include <bit>
#include <cmath>

namespace cajal {
uint64_t split_mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

Random::Random(uint64_t seed, uint64_t stream) {
  uint64_t state = seed ^ split_mix(stream);
  for (auto& word : state_) {
    word = split_mix(state);
    state += 0x9e3779b97f4a7c15;
  }
}

uint64_t Random::next() {
  const uint64_t result = std::rotl(state_[1] * 5, 7) * 9, shifted = state_[1] << 17;
  state_[2] ^= state_[0], state_[3] ^= state_[1], state_[1] ^= state_[2], state_[0] ^= state_[3];
  state_[2] ^= shifted;
  state_[3] = std::rotl(state_[3], 45);
  return result;
}

double Random::uniform() { return static_cast<double>(next() >> 11) * 0x1p-53; }

double Random::normal() {
  if (has_spare_) {
    has_spare_ = false;
    return spare_;
  }
  double x, y, square;
  do {
    x = 2 * uniform() - 1, y = 2 * uniform() - 1;
    square = x * x + y * y;
  } while (square >= 1 || square == 0);
  const double scale = std::sqrt(-2 * std::log(square) / square);
  spare_ = y * scale;
  has_spare_ = true;
  return x * scale;
}

uint64_t Random::below(uint64_t count) {
  const uint64_t limit =
      UINT64_MAX - UINT64_MAX % count;  // draws past it would favour small values
  uint64_t draw;
  do draw = next();
  while (draw >= limit);
  return draw % count;
}

}  // namespace cajal
