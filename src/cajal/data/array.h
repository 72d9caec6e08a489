#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <type_traits>
#include <vector>

#include "cajal/core/error.h"
#include "cajal/core/tensors.h"

namespace cajal::data {

/// Readers refuse files that unpack to more than this.
inline constexpr size_t kMaxBytes = size_t{4} << 30;

/// Numbers read from a file: row-major, in this machine's byte order.
struct Array {
  std::vector<int64_t> shape;
  Dtype dtype = Dtype::u8;
  std::vector<std::byte> bytes;

  int64_t count() const { return static_cast<int64_t>(bytes.size() / dtype_bytes(dtype)); }

  /// The numbers as T; throws Error when they are stored as another type.
  template <class T>
  std::span<const T> values() const {
    require(dtype == dtype_of<T>(), "the array holds {}, not {}", dtype_name(dtype),
            dtype_name(dtype_of<T>()));
    return {reinterpret_cast<const T*>(bytes.data()), static_cast<size_t>(count())};
  }

  template <class T>
  static constexpr Dtype dtype_of() {
    if constexpr (std::is_same_v<T, double>) return Dtype::f64;
    if constexpr (std::is_same_v<T, float>) return Dtype::f32;
    if constexpr (std::is_same_v<T, int64_t>) return Dtype::i64;
    if constexpr (std::is_same_v<T, int32_t>) return Dtype::i32;
    if constexpr (std::is_same_v<T, int16_t>) return Dtype::i16;
    if constexpr (std::is_same_v<T, int8_t>) return Dtype::i8;
    if constexpr (std::is_same_v<T, uint8_t>) return Dtype::u8;
  }
};

/// Throws Error that begins with `where` unless an array of this shape takes exactly the `there`
/// bytes that the file has for it; asked before anything is allocated.
void require_filled(const std::vector<int64_t>& shape, Dtype dtype, size_t there,
                    std::string_view where);

}  // namespace cajal::data
