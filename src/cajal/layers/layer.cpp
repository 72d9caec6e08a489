#include "cajal/layers/layer.h"

#include <algorithm>

namespace cajal::layers {
namespace {

bool has_port(const std::vector<Port>& ports, std::string_view name) {
  return std::any_of(ports.begin(), ports.end(), [&](const Port& p) { return p.name == name; });
}

std::vector<std::string_view> port_names(const std::vector<Port>& ports) {
  std::vector<std::string_view> names;
  for (const auto& port : ports) names.push_back(port.name);
  return names;
}

/// Errors of libtorch run over many lines; the first one says what was wrong.
[[noreturn]] void refuse(std::string_view layer, const c10::Error& error) {
  const std::string text = error.what_without_backtrace();
  fail("{}: {}", layer, text.substr(0, text.find('\n')));
}

}  // namespace

NamedTensors Layer::forward(const NamedTensors& tensors) const {
  for (const auto& [given, tensor] : tensors)
    require(has_port(inputs, given), "{}: no input is called '{}'{}; inputs are {}", name, given,
            did_you_mean(given, port_names(inputs)), fmt::join(port_names(inputs), ", "));
  auto axes = with_options({}, options);
  for (const auto& port : inputs) {
    const auto it = tensors.find(port.name);
    require(it != tensors.end() || port.optional, "{}: input '{}' {} is missing", name, port.name,
            port.shape);
    if (it != tensors.end()) check(name, port, it->second, axes);
  }
  NamedTensors out;
  try {
    out = call(tensors);
  } catch (const c10::Error& error) {
    refuse(name, error);
  }
  for (const auto& port : outputs)
    if (out.contains(port.name)) check(name, port, out.at(port.name), axes);
  return out;
}

Registry<Kind>& registry() {
  static Registry<Kind> all("layer");
  return all;
}

Layer build(std::string_view name, const Json& options) {
  const auto& kind = registry().at(name);
  try {
    auto layer = kind.build(options);
    for (const auto& parameter : layer.module->named_parameters())
      require(!has_port(layer.inputs, parameter.key()),
              "{}: '{}' names both a parameter and an input", name, parameter.key());
    return layer;
  } catch (const c10::Error& error) {
    refuse(name, error);
  }
}

void load_weights(const Layer& layer, const NamedTensors& weights, std::string_view where) {
  const auto parameters = layer.module->named_parameters();
  auto places = parameters;
  places.update(layer.module->named_buffers());
  const auto names = places.keys();
  for (const auto& parameter : parameters)
    require(weights.contains(parameter.key()), "{}: parameter '{}' {} of {} is missing", where,
            parameter.key(), shape_text(parameter.value().sizes()), layer.name);
  for (const auto& [name, tensor] : weights) {
    const auto* place = places.find(name);
    require(place != nullptr, "{}: tensor '{}' is no parameter of {}{}; its parameters are {}",
            where, name, layer.name, did_you_mean(name, {names.begin(), names.end()}),
            fmt::join(names, ", "));
    require(tensor.sizes() == place->sizes(), "{}: tensor '{}' is {}, expected {} ({} with {})",
            where, name, shape_text(tensor.sizes()), shape_text(place->sizes()), layer.name,
            layer.options.dump());
  }
  const torch::NoGradGuard no_grad;
  for (const auto& [name, tensor] : weights) places[name].copy_(tensor);
}

void move(const Layer& layer, torch::Device device, torch::Dtype type) {
  // Module::to would turn integer buffers into floats.
  const auto put = [&](torch::Tensor& tensor) {
    tensor.set_data(tensor.to(device, tensor.is_floating_point() ? type : tensor.scalar_type()));
  };
  const torch::NoGradGuard no_grad;
  for (auto& parameter : layer.module->named_parameters()) put(parameter.value());
  for (auto& buffer : layer.module->named_buffers()) put(buffer.value());
}

NamedTensors run_with_gradients(const Layer& layer, const NamedTensors& inputs,
                                const NamedTensors& cotangents) {
  std::vector<std::string> names;
  std::vector<torch::Tensor> variables, results, weights;
  auto tracked = inputs;
  for (auto& [name, tensor] : tracked) {
    if (!tensor.is_floating_point()) continue;
    tensor = tensor.detach().requires_grad_(true);
    names.push_back(name), variables.push_back(tensor);
  }
  for (const auto& parameter : layer.module->named_parameters())
    names.push_back(parameter.key()), variables.push_back(parameter.value());

  auto out = layer.forward(tracked);
  for (const auto& [name, cotangent] : cotangents) {
    require(out.contains(name), "{}: cotangent for '{}', but outputs are {}", layer.name, name,
            fmt::join(port_names(layer.outputs), ", "));
    require(cotangent.sizes() == out.at(name).sizes(), "{}: cotangent of '{}' is {}, expected {}",
            layer.name, name, shape_text(cotangent.sizes()), shape_text(out.at(name).sizes()));
  }
  for (auto& [name, tensor] : out) {
    if (tensor.requires_grad()) {
      const auto it = cotangents.find(name);
      results.push_back(tensor);
      weights.push_back(it == cotangents.end() ? torch::ones_like(tensor)
                                               : it->second.to(tensor.options()));
    }
    tensor = tensor.detach();
  }
  std::vector<torch::Tensor> gradients(variables.size());
  if (!results.empty() && !variables.empty())
    gradients = torch::autograd::grad(results, variables, weights, /*retain_graph=*/false,
                                      /*create_graph=*/false, /*allow_unused=*/true);
  for (size_t i = 0; i < names.size(); ++i)
    out["grad." + names[i]] =
        gradients[i].defined() ? gradients[i] : torch::zeros_like(variables[i]);
  return out;
}

namespace detail {

Tensors by_order(const std::vector<Port>& ports, const NamedTensors& tensors) {
  Tensors out;
  for (const auto& port : ports) {
    const auto it = tensors.find(port.name);
    out.push_back(it == tensors.end() ? torch::Tensor() : it->second);
  }
  return out;
}

NamedTensors by_name(const std::vector<Port>& ports, const Tensors& tensors) {
  require(ports.size() == tensors.size(), "forward gave {} tensors, {} outputs are declared",
          tensors.size(), ports.size());
  NamedTensors out;
  for (size_t i = 0; i < ports.size(); ++i)
    if (tensors[i].defined()) out.emplace(ports[i].name, tensors[i]);
  return out;
}

}  // namespace detail
}  // namespace cajal::layers
