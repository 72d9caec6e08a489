#include "cajal/neurons/activation.h"

#include <string>
#include <utility>
#include <vector>

#include "cajal/core/registry.h"
#include "cajal/neurons/elementwise.h"

namespace cajal {

torch::Tensor activate(Activation law, const torch::Tensor& x) {
  switch (law) {
    case Activation::identity:
      return x;
    case Activation::relu:
      return torch::relu(x);
    case Activation::relu6:
      return torch::clamp(x, 0, 6);
    case Activation::leaky_relu:
      return torch::leaky_relu(x, 0.01);
    case Activation::elu:
      return torch::elu(x);
    case Activation::selu:
      return torch::selu(x);
    case Activation::gelu:
      return torch::gelu(x);
    case Activation::gelu_tanh:
      return torch::gelu(x, "tanh");
    case Activation::silu:
      return torch::silu(x);
    case Activation::softplus:
      return torch::softplus(x);
    case Activation::sigmoid:
      return torch::sigmoid(x);
    case Activation::tanh:
      return torch::tanh(x);
    case Activation::hard_tanh:
      return torch::clamp(x, -1, 1);
    case Activation::hard_sigmoid:
      return torch::hardsigmoid(x);
    case Activation::hard_swish:
      return torch::hardswish(x);
    default:  // what libtorch would compute in several passes
      return apply_law(laws::at(to_name(law)), x);
  }
}

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
