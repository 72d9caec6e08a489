#pragma once
#include <string_view>

#include "cajal/core/options.h"

namespace cajal {

/// The law of a neuron: how it responds to what it hears. None of them holds parameters; those that
/// do are in neurons/elementwise.h.
enum class Activation {
  identity,        // x
  relu,            // max(x, 0)
  relu2,           // max(x, 0)²
  relu6,           // min(max(x, 0), 6)
  leaky_relu,      // x where x > 0, else 0.01 x
  elu,             // x where x > 0, else exp(x) - 1
  selu,            // 1.0507 x where x > 0, else 1.7581 (exp(x) - 1)
  gelu,            // x Φ(x), Φ by the error function
  gelu_tanh,       // x (1 + tanh(√(2/π) (x + 0.044715 x³))) / 2
  quick_gelu,      // x σ(1.702 x)
  silu,            // x σ(x)
  mish,            // x tanh(log(1 + exp(x)))
  softplus,        // log(1 + exp(x))
  softsign,        // x / (1 + |x|)
  sigmoid,         // σ(x)
  tanh,            // tanh(x)
  hard_tanh,       // min(max(x, -1), 1)
  hard_sigmoid,    // min(max(x + 3, 0), 6) / 6
  hard_swish,      // x hard_sigmoid(x)
  elliott,         // 0.5 x / (1 + |x|) + 0.5
  scaled_sigmoid,  // 4 σ(x) - 2
  resech,          // x / cosh(x)
  dsilu,           // σ(x) (1 + x (1 - σ(x)))
  arctan,          // atan(x)
  lisht,           // x tanh(x)
  slu,             // x where x > 0, else 2 log((exp(x) + 1) / 2)
  vrelu,           // |x|
  tanhexp,         // x tanh(exp(x))
  colu,            // x / (1 - x exp(-(x + exp(x))))
  pflu,            // x (1 + x / √(1 + x²)) / 2
  fpflu,           // x where x > 0, else x + x² / √(1 + x²)
  gcu,             // x cos(x)
  sine,            // sin(x)
};

/// The law that a Hugging Face config means by `name` ("gelu_new", "swish", ...). `where` names the
/// field for the message, e.g. "config.json: hidden_act"; throws Error for a name not known here.
Activation activation_from_hf(std::string_view name, std::string_view where);

/// How a norm brings its input to size 1; rms_one_plus: Gemma's x̂ (1 + w).
enum class NormKind { layer, rms, rms_one_plus };

}  // namespace cajal

CAJAL_ENUM(cajal::Activation, {cajal::Activation::identity, "identity"},
           {cajal::Activation::relu, "relu"}, {cajal::Activation::relu2, "relu2"},
           {cajal::Activation::relu6, "relu6"}, {cajal::Activation::leaky_relu, "leaky_relu"},
           {cajal::Activation::elu, "elu"}, {cajal::Activation::selu, "selu"},
           {cajal::Activation::gelu, "gelu"}, {cajal::Activation::gelu_tanh, "gelu_tanh"},
           {cajal::Activation::quick_gelu, "quick_gelu"}, {cajal::Activation::silu, "silu"},
           {cajal::Activation::mish, "mish"}, {cajal::Activation::softplus, "softplus"},
           {cajal::Activation::softsign, "softsign"}, {cajal::Activation::sigmoid, "sigmoid"},
           {cajal::Activation::tanh, "tanh"}, {cajal::Activation::hard_tanh, "hard_tanh"},
           {cajal::Activation::hard_sigmoid, "hard_sigmoid"},
           {cajal::Activation::hard_swish, "hard_swish"}, {cajal::Activation::elliott, "elliott"},
           {cajal::Activation::scaled_sigmoid, "scaled_sigmoid"},
           {cajal::Activation::resech, "resech"}, {cajal::Activation::dsilu, "dsilu"},
           {cajal::Activation::arctan, "arctan"}, {cajal::Activation::lisht, "lisht"},
           {cajal::Activation::slu, "slu"}, {cajal::Activation::vrelu, "vrelu"},
           {cajal::Activation::tanhexp, "tanhexp"}, {cajal::Activation::colu, "colu"},
           {cajal::Activation::pflu, "pflu"}, {cajal::Activation::fpflu, "fpflu"},
           {cajal::Activation::gcu, "gcu"}, {cajal::Activation::sine, "sine"})
