#include "cajal/data/array.h"

#include <algorithm>

namespace cajal::data {

size_t checked_bytes(const std::vector<int64_t>& shape, Dtype dtype, size_t available,
                     std::string_view where) {
  require(std::all_of(shape.begin(), shape.end(), [](int64_t size) { return size >= 0; }),
          "{}: shape [{}] has a negative size", where, fmt::join(shape, ", "));
  if (std::find(shape.begin(), shape.end(), 0) != shape.end()) return 0;
  size_t bytes = dtype_bytes(dtype);
  for (const auto size : shape) {
    require(static_cast<size_t>(size) <= available / bytes,
            "{}: shape [{}] of {} needs more than the {} bytes that are there", where,
            fmt::join(shape, ", "), dtype_name(dtype), available);
    bytes *= static_cast<size_t>(size);
  }
  require(bytes <= available, "{}: {} bytes expected, {} are there", where, bytes, available);
  return bytes;
}

}  // namespace cajal::data
