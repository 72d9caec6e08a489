#pragma once
#include <cstdint>

#include "cajal/kernels/activation.h"

namespace cajal {

using Law = Activation;  // as a feed-forward block calls it

/// y[i] = law(x[i]), within 3e-7 of the exact value or of |x[i]|; x and y may be the same.
void apply_law(Law law, const float* x, int64_t count, float* y);

/// y[i] = law(gate[i]) * x[i]; y may be x or gate.
void apply_gate(Law law, const float* gate, const float* x, int64_t count, float* y);

}  // namespace cajal
