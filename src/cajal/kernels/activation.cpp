#include "cajal/kernels/activation.h"

#include "cajal/core/error.h"
#include "cajal/core/registry.h"

namespace cajal {

Activation activation_from_hf(std::string_view name, std::string_view where) {
  // Hugging Face writes the tanh form of GELU in many ways that differ only in rounding.
  static constexpr std::pair<std::string_view, Activation> kNames[] = {
      {"linear", Activation::identity},
      {"relu", Activation::relu},
      {"relu2", Activation::relu2},
      {"relu6", Activation::relu6},
      {"leaky_relu", Activation::leaky_relu},
      {"elu", Activation::elu},
      {"selu", Activation::selu},
      {"gelu", Activation::gelu},
      {"gelu_python", Activation::gelu},
      {"gelu_new", Activation::gelu_tanh},
      {"gelu_fast", Activation::gelu_tanh},
      {"gelu_accurate", Activation::gelu_tanh},
      {"gelu_pytorch_tanh", Activation::gelu_tanh},
      {"gelu_python_tanh", Activation::gelu_tanh},
      {"quick_gelu", Activation::quick_gelu},
      {"silu", Activation::silu},
      {"swish", Activation::silu},
      {"mish", Activation::mish},
      {"sigmoid", Activation::sigmoid},
      {"tanh", Activation::tanh},
      {"hardtanh", Activation::hard_tanh},
  };
  std::vector<std::string_view> known;
  for (const auto& [candidate, law] : kNames) {
    if (name == candidate) return law;
    known.push_back(candidate);
  }
  fail("{}: '{}' is not an activation known here{}; known are {}", where, name,
       did_you_mean(name, known), fmt::join(known, ", "));
}

}  // namespace cajal
