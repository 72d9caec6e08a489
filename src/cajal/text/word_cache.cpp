#include <bit>
#include <cstring>

#include "cajal/text/model.h"

namespace cajal::text {

WordCache::Key WordCache::key(std::string_view word) {
  const char* p = word.data();
  const size_t bytes = word.size();
  uint64_t low = 0, high = 0;
  if (bytes >= 8) {
    std::memcpy(&low, p, 8);
    std::memcpy(&high, p + bytes - 8, 8);  // overlaps `low`; only the bytes behind it are kept
    high = bytes == 8 ? 0 : high >> (8 * (16 - bytes));
  } else if (bytes >= 4) {
    uint32_t front = 0, back = 0;
    std::memcpy(&front, p, 4);
    std::memcpy(&back, p + bytes - 4, 4);
    low = front | static_cast<uint64_t>(back) << (8 * (bytes - 4));
  } else {
    const auto byte = [&](size_t i) { return uint64_t{static_cast<uint8_t>(p[i])}; };
    low = byte(0) | byte(bytes / 2) << 8 | byte(bytes - 1) << 16;
  }
  return {low, high | static_cast<uint64_t>(bytes) << 56};
}

WordCache::Slot& WordCache::slot(Key key) {
  uint64_t hash = (key.low ^ std::rotl(key.high, 23)) * 0x9E3779B97F4A7C15ull;
  hash ^= hash >> 29;
  return slots_[(hash * 0xD6E8FEB86659FD93ull) >> (64 - kBits)];
}

}  // namespace cajal::text
