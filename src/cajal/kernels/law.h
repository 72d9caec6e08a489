#pragma once
#include <cstdint>

#include "cajal/core/options.h"

namespace cajal {

/// The law of a neuron as the kernels know it: the names and formulas of `Activation`, of which
/// these are the ones that trained transformers use.
enum class Law { identity, relu, relu2, gelu, gelu_tanh, quick_gelu, silu, sigmoid, tanh };

/// y[i] = law(x[i]), to 2e-7 of the exact value or of |x[i]|; x and y may be the same.
void apply_law(Law law, const float* x, int64_t count, float* y);

/// y[i] = law(gate[i]) * x[i]; y may be x or gate.
void apply_gate(Law law, const float* gate, const float* x, int64_t count, float* y);

}  // namespace cajal

CAJAL_ENUM(cajal::Law, {cajal::Law::identity, "identity"}, {cajal::Law::relu, "relu"},
           {cajal::Law::relu2, "relu2"}, {cajal::Law::gelu, "gelu"},
           {cajal::Law::gelu_tanh, "gelu_tanh"}, {cajal::Law::quick_gelu, "quick_gelu"},
           {cajal::Law::silu, "silu"}, {cajal::Law::sigmoid, "sigmoid"}, {cajal::Law::tanh, "tanh"})
