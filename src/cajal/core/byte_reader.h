#pragma once
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <type_traits>

#include "cajal/core/error.h"

namespace cajal {

static_assert(std::endian::native == std::endian::little, "file formats here are little-endian");

/// Walks through the bytes of a file; where they end too early it throws Error that names the file
/// and the byte. `bytes` and `where` must outlive it.
class ByteReader {
 public:
  ByteReader(std::span<const std::byte> bytes, std::string_view where, size_t position = 0)
      : bytes_(bytes), where_(where), position_(position) {
    require(position <= bytes.size(), "{}: byte {} is past its end at {}", where, position,
            bytes.size());
  }

  size_t position() const { return position_; }
  size_t remaining() const { return bytes_.size() - position_; }

  std::span<const std::byte> take(uint64_t count) {
    require(count <= remaining(), "{}: ends at byte {}, but {} bytes are expected from byte {} on",
            where_, bytes_.size(), count, position_);
    position_ += count;
    return bytes_.subspan(position_ - count, count);
  }

  std::string_view text(uint64_t count) {
    const auto taken = take(count);
    return {reinterpret_cast<const char*>(taken.data()), taken.size()};
  }

  /// A little-endian number.
  template <class T>
  requires std::is_arithmetic_v<T> T read() {
    T value;
    std::memcpy(&value, take(sizeof value).data(), sizeof value);
    return value;
  }

  /// The text up to the next line feed, which is passed over.
  std::string_view line() {
    const std::string_view rest{reinterpret_cast<const char*>(bytes_.data()) + position_,
                                remaining()};
    const size_t length = rest.find('\n');
    require(length != rest.npos, "{}: the line that begins at byte {} does not end", where_,
            position_);
    position_ += length + 1;
    return rest.substr(0, length);
  }

 private:
  std::span<const std::byte> bytes_;
  std::string_view where_;
  size_t position_;
};

}  // namespace cajal
