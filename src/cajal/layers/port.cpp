#include "cajal/layers/port.h"

#include <algorithm>
#include <charconv>

#include "cajal/core/error.h"

namespace cajal::layers {
namespace {

constexpr std::string_view kRest = "...";

std::vector<std::string_view> axis_names(const Port& port) {
  std::string_view text = port.shape;
  require(text.size() >= 2 && text.front() == '[' && text.back() == ']',
          "port '{}': shape '{}' is not written [a, b, ...]", port.name, port.shape);
  text = text.substr(1, text.size() - 2);
  std::vector<std::string_view> names;
  while (!text.empty()) {
    const auto comma = std::min(text.find(','), text.size());
    auto name = text.substr(0, comma);
    name.remove_prefix(std::min(name.find_first_not_of(' '), name.size()));
    names.push_back(name);
    text.remove_prefix(std::min(comma + 1, text.size()));
  }
  return names;
}

std::optional<int64_t> known_size(std::string_view name, const Axes& axes) {
  int64_t number = 0;
  const auto [end, error] = std::from_chars(name.begin(), name.end(), number);
  if (error == std::errc() && end == name.end()) return number;
  const auto it = axes.sizes.find(name);
  return it == axes.sizes.end() ? std::nullopt : std::optional(it->second);
}

/// "[..., width] with width = 64", for messages.
std::string expectation(const Port& port, const Axes& axes) {
  std::string out = port.shape, known;
  for (const auto name : axis_names(port)) {
    const auto it = axes.sizes.find(name);
    if (it != axes.sizes.end())
      known += fmt::format("{}{} = {}", known.empty() ? "" : ", ", name, it->second);
    if (name == kRest && axes.rest)
      known += fmt::format("{}... = {}", known.empty() ? "" : ", ", shape_text(*axes.rest));
  }
  return known.empty() ? out : out + " with " + known;
}

void check_indices(std::string_view layer, const Port& port, const torch::Tensor& tensor,
                   const Axes& axes) {
  require(tensor.scalar_type() == torch::kLong, "{}: {} is {}, expected int64 indices", layer,
          port.name, c10::toString(tensor.scalar_type()));
  const auto limit = known_size(port.below, axes);
  if (!limit || tensor.numel() == 0) return;
  const auto low = tensor.min().item<int64_t>(), high = tensor.max().item<int64_t>();
  require(low >= 0 && high < *limit, "{}: {} holds index {}, expected 0 to {} ({} - 1)", layer,
          port.name, low < 0 ? low : high, *limit - 1, port.below);
}

}  // namespace

Axes with_options(Axes axes, const Json& options) {
  for (const auto& item : options.items())
    if (item.value().is_number_integer() && item.value().get<int64_t>() > 0)
      axes.sizes[item.key()] = item.value().get<int64_t>();
  return axes;
}

void check(std::string_view layer, const Port& port, const torch::Tensor& tensor, Axes& axes) {
  const auto names = axis_names(port);
  const auto sizes = tensor.sizes();
  const auto refuse = [&] {
    fail("{}: {} is {}, expected {}", layer, port.name, shape_text(sizes), expectation(port, axes));
  };
  const bool has_rest = std::find(names.begin(), names.end(), kRest) != names.end();
  const size_t named = names.size() - (has_rest ? 1 : 0);
  if (has_rest ? sizes.size() < named : sizes.size() != named) refuse();
  auto learned = axes;
  size_t axis = 0;
  for (const auto name : names) {
    if (name == kRest) {
      const auto rest = sizes.slice(axis, sizes.size() - named).vec();
      if (axes.rest && *axes.rest != rest) refuse();
      learned.rest = rest;
      axis += rest.size();
      continue;
    }
    const auto size = known_size(name, learned);
    if (size && *size != sizes[axis]) refuse();
    if (!size) learned.sizes.emplace(name, sizes[axis]);
    ++axis;
  }
  axes = std::move(learned);
  if (!port.below.empty()) {
    check_indices(layer, port, tensor, axes);
  } else {
    require(tensor.is_floating_point() || tensor.is_complex(), "{}: {} is {}, expected floats",
            layer, port.name, c10::toString(tensor.scalar_type()));
  }
}

std::vector<int64_t> sizes_of(const Port& port, const Axes& axes, int64_t otherwise) {
  std::vector<int64_t> sizes;
  for (const auto name : axis_names(port)) {
    if (name == kRest) {
      const auto rest = axes.rest.value_or(std::vector<int64_t>{otherwise});
      sizes.insert(sizes.end(), rest.begin(), rest.end());
    } else {
      sizes.push_back(known_size(name, axes).value_or(otherwise));
    }
  }
  return sizes;
}

torch::Tensor example(const Port& port, const Axes& axes, int64_t otherwise,
                      const torch::TensorOptions& type) {
  const auto sizes = sizes_of(port, axes, otherwise);
  if (port.below.empty()) return torch::randn(sizes, type);
  return torch::randint(known_size(port.below, axes).value_or(otherwise), sizes,
                        type.dtype(torch::kLong));
}

}  // namespace cajal::layers
