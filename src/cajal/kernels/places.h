#pragma once
#include <cstdint>
#include <vector>

namespace cajal {

/// The places i, ascending, of `count` values that are larger than `least` in size; NaN counts.
std::vector<int32_t> loud_places(const float* x, int64_t count, float least);

/// The places i, ascending, where x[i] >= least[i], after those in `out`.
void append_places_from(const float* x, const float* least, int64_t count,
                        std::vector<int32_t>& out);

}  // namespace cajal
