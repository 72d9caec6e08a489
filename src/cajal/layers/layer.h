#pragma once
#include <functional>
#include <memory>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "cajal/core/options.h"
#include "cajal/core/registry.h"
#include "cajal/core/torch_tensors.h"
#include "cajal/layers/port.h"

/// Layers by name: built from JSON options, run on named tensors. A layer is a torch::nn::Module
/// whose Impl has a public member `options` of the CAJAL_OPTIONS struct that its constructor takes.
/// Complex parameters are kept as real [..., 2].
namespace cajal::layers {

/// A layer built from options. Its module holds the parameters and buffers by name.
struct Layer {
  std::string name;
  Json options;  // all of them, defaults filled in
  std::shared_ptr<torch::nn::Module> module;
  std::vector<Port> inputs, outputs;
  std::function<NamedTensors(const NamedTensors&)> call;  // of the module, unchecked

  /// Outputs by name. Throws Error for an input that is missing, unknown or of a wrong shape.
  NamedTensors forward(const NamedTensors& tensors) const;
};

/// What a kind of layer says of itself when it registers.
template <class Options>
struct Declaration {
  Options example = {};  // small ones that build: `show`, `time` and the tests use them
  std::vector<Port> inputs = {{"x", "[..., width]"}};
  std::vector<Port> outputs = {{"y", "[..., width]"}};
  Axes axes = {};                   // example sizes of axes that no option names
  bool surrogate_gradient = false;  // backward is, on purpose, not the derivative of forward
};

/// A registered kind of layer.
struct Kind {
  std::string summary;
  Json defaults, example;  // options
  std::vector<Port> inputs, outputs;
  Axes axes;
  bool surrogate_gradient = false;
  std::function<Layer(const Json& options)> build;
};

Registry<Kind>& registry();

/// The layer of that name; options left out keep their defaults. Throws Error that names the option
/// or the nearest layer there is.
Layer build(std::string_view name, const Json& options);

/// Copies `weights` into the parameters and buffers. Every parameter must be there with its shape,
/// a buffer may be, nothing else may; throws Error that names `where` and the tensor otherwise.
void load_weights(const Layer& layer, const NamedTensors& weights, std::string_view where);

/// Moves parameters and buffers; of the buffers, integers keep their type.
void move(const Layer& layer, torch::Device device, torch::Dtype type);

/// The outputs, and as grad.NAME the gradients of Σ sum(output · cotangent) over the floating
/// outputs for every floating input and every parameter (zeros where nothing depends on it).
/// `cotangents` go by output name; those left out are ones.
NamedTensors run_with_gradients(const Layer& layer, const NamedTensors& inputs,
                                const NamedTensors& cotangents = {});

namespace detail {

using Tensors = std::vector<torch::Tensor>;

/// Tensors in the order of `ports`, undefined where an optional one was left out, and back.
Tensors by_order(const std::vector<Port>& ports, const NamedTensors& tensors);
NamedTensors by_name(const std::vector<Port>& ports, const Tensors& tensors);

inline Tensors results(const torch::Tensor& out) { return {out}; }
inline Tensors results(Tensors out) { return out; }
template <class... T>
Tensors results(const std::tuple<T...>& out) {
  return std::apply([](const auto&... one) { return Tensors{one...}; }, out);
}

template <class Method>
struct Arity;
template <class Impl, class Result, class... Arguments>
struct Arity<Result (Impl::*)(Arguments...)> : std::index_sequence_for<Arguments...> {};
template <class Impl, class Result, class... Arguments>
struct Arity<Result (Impl::*)(Arguments...) const> : std::index_sequence_for<Arguments...> {};

template <class Impl, size_t... I>
Tensors call_forward(Impl& module, const Tensors& inputs, std::index_sequence<I...>) {
  require(inputs.size() == sizeof...(I), "forward takes {} tensors, {} inputs are declared",
          sizeof...(I), inputs.size());
  return results(module.forward(inputs[I]...));
}

}  // namespace detail

template <class Holder>
using OptionsOf = std::remove_cv_t<decltype(Holder::ContainedType::options)>;

/// Registers a layer whose Impl has one forward(Tensor, ...) -> Tensor, tuple or vector of them, in
/// the order of the declared inputs and outputs; optional inputs arrive undefined when left out.
template <class Holder>
bool add(const std::string& name, const std::string& summary,
         const Declaration<OptionsOf<Holder>>& declared) {
  using Impl = typename Holder::ContainedType;
  const auto build = [name, inputs = declared.inputs,
                      outputs = declared.outputs](const Json& json) {
    const auto options = options::parse<OptionsOf<Holder>>(json, name);
    const auto module = std::make_shared<Impl>(options);
    const auto call = [module, inputs, outputs](const NamedTensors& tensors) {
      return detail::by_name(outputs,
                             detail::call_forward(*module, detail::by_order(inputs, tensors),
                                                  detail::Arity<decltype(&Impl::forward)>{}));
    };
    return Layer{name, options::write(options), module, inputs, outputs, call};
  };
  return registry().add(
      name,
      Kind{summary, options::write(OptionsOf<Holder>{}), options::write(declared.example),
           declared.inputs, declared.outputs, declared.axes, declared.surrogate_gradient, build});
}

}  // namespace cajal::layers
