#include "cajal/layers/init.h"

#include <cmath>

#include "cajal/core/error.h"

namespace cajal::init {

torch::Tensor fan_in_uniform(torch::IntArrayRef sizes, int64_t fan_in) {
  if (fan_in == 0 && !sizes.empty()) fan_in = sizes.back();
  require(fan_in > 0, "fan_in_uniform: {} has no fan-in", shape_text(sizes));
  const double bound = 1 / std::sqrt(static_cast<double>(fan_in));
  return torch::empty(sizes).uniform_(-bound, bound);
}

}  // namespace cajal::init
