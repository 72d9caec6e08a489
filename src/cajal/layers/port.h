#pragma once
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cajal/core/json.h"
#include "cajal/core/torch.h"

namespace cajal::layers {

/// A tensor that a layer takes or gives.
struct Port {
  std::string name;
  std::string shape;       // "[..., width]", "[batch, channels, 3]": names and numbers
  std::string below = "";  // not empty: int64 indices in [0, axis or number of that name)
  bool optional = false;   // an input that may be left out
};

/// What the axis names of a layer stand for: the same in all of its ports.
struct Axes {
  std::map<std::string, int64_t, std::less<>> sizes;
  std::optional<std::vector<int64_t>> rest;  // "..."
};

/// Adds the axes that positive integer options name, e.g. {"width": 64}; other options name none.
Axes with_options(Axes axes, const Json& options);

/// Checks a tensor against its port and learns the axes not known yet. Throws Error that names the
/// layer, the port, the shape (or the index out of range) and what was expected.
void check(std::string_view layer, const Port& port, const torch::Tensor& tensor, Axes& axes);

/// The sizes of a port's tensor; axes not known are `otherwise`, "..." then one axis of that size.
std::vector<int64_t> sizes_of(const Port& port, const Axes& axes, int64_t otherwise);

/// A tensor to try a layer on: normal for floats, uniform for indices.
torch::Tensor example(const Port& port, const Axes& axes, int64_t otherwise,
                      const torch::TensorOptions& type);

}  // namespace cajal::layers
