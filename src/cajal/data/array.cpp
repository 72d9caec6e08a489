#include "cajal/data/array.h"

namespace cajal::data {

void require_filled(const std::vector<int64_t>& shape, Dtype dtype, size_t there,
                    std::string_view where) {
  const size_t needed = tensor_bytes(dtype, shape, where);
  require(needed == there, "{}: {} bytes of data, but shape [{}] of {} takes {}", where, there,
          fmt::join(shape, ", "), dtype_name(dtype), needed);
}

}  // namespace cajal::data
