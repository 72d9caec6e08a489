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

}  // namespace cajal
