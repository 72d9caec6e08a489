#include "cajal/layers/layer.h"

#include "../verb.h"
#include "cajal/core/machine.h"
#include "cajal/core/timing.h"

namespace cajal {
namespace {

struct Request {
  std::string name, options, weights, input, output, device = "auto", type = "f32";
  std::vector<std::string> shapes;
  bool json = false, gradients = false, training = false;
  int64_t seed = 0;
  int threads = 0, rounds = 31;
};

Json parsed_options(const Request& request) {
  return request.options.empty() ? layers::registry().at(request.name).example
                                 : parse_json(request.options, "--options");
}

Json port_json(const layers::Port& port) {
  Json json = {
      {"name", port.name}, {"shape", port.shape}, {"type", port.below.empty() ? "float" : "int64"}};
  if (!port.below.empty()) json["below"] = port.below;
  if (port.optional) json["optional"] = true;
  return json;
}

void list(const Request& request) {
  const auto& kinds = layers::registry().entries();
  if (request.json) {
    Json rows = Json::array();
    for (const auto& [name, kind] : kinds)
      rows.push_back({{"name", name}, {"summary", kind.summary}});
    fmt::print("{}\n", Json{{"layers", rows}}.dump());
    return;
  }
  size_t width = 0;
  for (const auto& [name, kind] : kinds) width = std::max(width, name.size());
  for (const auto& [name, kind] : kinds) fmt::print("{:<{}}  {}\n", name, width, kind.summary);
}

Json tensors_json(const torch::OrderedDict<std::string, torch::Tensor>& tensors) {
  Json rows = Json::array();
  for (const auto& item : tensors)
    rows.push_back({{"name", item.key()},
                    {"shape", item.value().sizes().vec()},
                    {"type", dtype_name(stored_dtype(item.value().scalar_type(), item.key()))}});
  return rows;
}

Json description(const Request& request) {
  const auto& kind = layers::registry().at(request.name);
  const auto layer = layers::build(request.name, parsed_options(request));
  Json inputs = Json::array(), outputs = Json::array();
  for (const auto& port : kind.inputs) inputs.push_back(port_json(port));
  for (const auto& port : kind.outputs) outputs.push_back(port_json(port));
  return {{"name", request.name},
          {"summary", kind.summary},
          {"defaults", kind.defaults},
          {"options", layer.options},
          {"parameters", tensors_json(layer.module->named_parameters())},
          {"buffers", tensors_json(layer.module->named_buffers())},
          {"inputs", inputs},
          {"outputs", outputs},
          {"surrogate_gradient", kind.surrogate_gradient}};
}

void show(const Request& request) {
  const auto json = description(request);
  if (request.json) {
    fmt::print("{}\n", json.dump());
    return;
  }
  fmt::print("{}: {}\n\noptions{}\n", request.name, json["summary"].get<std::string>(),
             request.options.empty() ? " (of the example)" : "");
  for (const auto& item : json["options"].items())
    fmt::print("  {:<20} {:<12} default {}\n", item.key(), item.value().dump(),
               json["defaults"][item.key()].dump());
  for (const char* part : {"parameters", "buffers", "inputs", "outputs"}) {
    if (json[part].empty()) continue;
    fmt::print("\n{}\n", part);
    for (const auto& row : json[part]) {
      const auto& shape = row["shape"];
      fmt::print("  {:<20} {} {}{}{}\n", row["name"].get<std::string>(),
                 shape.is_string() ? shape.get<std::string>()
                                   : shape_text(shape.get<std::vector<int64_t>>()),
                 row["type"].get<std::string>(),
                 row.contains("below") ? " below " + row["below"].get<std::string>() : "",
                 row.contains("optional") ? ", optional" : "");
    }
  }
  if (json["surrogate_gradient"]) fmt::print("\nbackward is a surrogate gradient\n");
}

/// Takes the cotangents out of the tensors of the input file: "cotangent" for the only output or
/// "cotangent.NAME".
NamedTensors take_cotangents(NamedTensors& inputs, const layers::Layer& layer,
                             const std::string& where) {
  NamedTensors cotangents;
  for (auto it = inputs.begin(); it != inputs.end();) {
    if (it->first == "cotangent") {
      require(layer.outputs.size() == 1, "{}: {} has {} outputs; name them, cotangent.{}", where,
              layer.name, layer.outputs.size(), layer.outputs[0].name);
      cotangents[layer.outputs[0].name] = it->second;
    } else if (it->first.starts_with("cotangent.")) {
      cotangents[it->first.substr(10)] = it->second;
    } else {
      ++it;
      continue;
    }
    it = inputs.erase(it);
  }
  return cotangents;
}

/// The widest floating type among all of them, so that nothing given is rounded.
torch::Dtype widest_type(std::initializer_list<const NamedTensors*> groups) {
  std::optional<torch::Dtype> widest;
  for (const auto* group : groups)
    for (const auto& [name, tensor] : *group)
      if (tensor.is_floating_point())
        widest =
            widest ? torch::promote_types(*widest, tensor.scalar_type()) : tensor.scalar_type();
  return widest.value_or(torch::kFloat);
}

void run(const Request& request) {
  const auto device = pick_device(request.device);
  seed_everything(static_cast<uint64_t>(request.seed));
  const auto layer = layers::build(request.name, parse_json(request.options, "--options"));
  auto inputs = load_tensors(request.input);
  const auto cotangents = take_cotangents(inputs, layer, request.input);
  NamedTensors weights;
  if (!request.weights.empty()) weights = load_tensors(request.weights);
  const auto type = widest_type({&inputs, &weights});
  layers::move(layer, device, type);
  if (!request.weights.empty()) layers::load_weights(layer, weights, request.weights);
  layer.module->train(request.training);
  for (auto& [name, tensor] : inputs)
    tensor = tensor.to(device, tensor.is_floating_point() ? type : tensor.scalar_type());
  NamedTensors out;
  if (request.gradients) {
    out = layers::run_with_gradients(layer, inputs, cotangents);
  } else {
    const torch::NoGradGuard no_grad;
    out = layer.forward(inputs);
  }
  save_tensors(request.output, out);
}

NamedTensors timing_inputs(const Request& request, const torch::TensorOptions& type) {
  const auto& kind = layers::registry().at(request.name);
  auto axes = layers::with_options(kind.axes, parsed_options(request));
  NamedTensors inputs;
  for (const auto& text : request.shapes) {  // "8,128,64" for the first input, or "x=8,128,64"
    const auto equals = text.find('=');
    const auto name = equals == std::string::npos ? kind.inputs.at(0).name : text.substr(0, equals);
    const auto numbers = equals == std::string::npos ? text : text.substr(equals + 1);
    const auto sizes = parse_json("[" + numbers + "]", "--shape " + text);
    const auto port = std::find_if(kind.inputs.begin(), kind.inputs.end(),
                                   [&](const layers::Port& p) { return p.name == name; });
    require(port != kind.inputs.end(), "--shape {}: {} has no input '{}'", text, request.name,
            name);
    std::vector<int64_t> shape;
    options::read(sizes, "--shape " + text, shape);
    for (const auto size : shape) require(size > 0, "--shape {}: sizes must be positive", text);
    // Learn the axes from an index-free stand-in that takes no memory.
    layers::check(request.name, {port->name, port->shape},
                  torch::empty({1}, torch::kFloat).expand(shape), axes);
  }
  constexpr int64_t kOtherwise = 512;
  for (const auto& port : kind.inputs)
    if (!port.optional) inputs[port.name] = layers::example(port, axes, kOtherwise, type);
  return inputs;
}

void time(const Request& request) {
  require(request.rounds > 0, "--rounds: expected at least 1, got {}", request.rounds);
  const auto device = pick_device(request.device);
  const auto type = request.type == "f64"    ? torch::kDouble
                    : request.type == "bf16" ? torch::kBFloat16
                    : request.type == "f16"  ? torch::kHalf
                                             : torch::kFloat;
  set_torch_threads(request.threads);
  seed_everything(static_cast<uint64_t>(request.seed));
  const auto layer = layers::build(request.name, parsed_options(request));
  layers::move(layer, device, type);
  const auto inputs = timing_inputs(request, torch::TensorOptions(type).device(device));
  const auto finish = [&] {
    if (device.is_cuda()) torch::cuda::synchronize();
  };
  const auto times = time_interleaved({[&] {
                                         const torch::NoGradGuard no_grad;
                                         layer.forward(inputs);
                                         finish();
                                       },
                                       [&] {
                                         layers::run_with_gradients(layer, inputs);
                                         finish();
                                       }},
                                      request.rounds, 3);
  const auto& first = inputs.at(layer.inputs.at(0).name);
  int64_t parameters = 0;
  for (const auto& parameter : layer.module->parameters()) parameters += parameter.numel();
  const double forward = times.median_seconds(0), both = times.median_seconds(1);
  const auto elements = static_cast<double>(first.numel());
  if (request.json) {
    Json shapes = Json::object();
    for (const auto& [name, tensor] : inputs) shapes[name] = tensor.sizes().vec();
    fmt::print("{}\n", Json{{"name", request.name},
                            {"options", layer.options},
                            {"parameters", parameters},
                            {"inputs", shapes},
                            {"type", request.type},
                            {"device", device.str()},
                            {"torch_threads", torch::get_num_threads()},
                            {"rounds", request.rounds},
                            {"forward_seconds", forward},
                            {"forward_backward_seconds", both},
                            {"forward_ns_per_element", 1e9 * forward / elements},
                            {"forward_backward_ns_per_element", 1e9 * both / elements},
                            {"provenance", provenance()}}
                           .dump());
    return;
  }
  fmt::print("{} {}\n{} parameters, {} {}, {} {}, {} thread(s), median of {}\n", request.name,
             layer.options.dump(), parameters, layer.inputs[0].name, shape_text(first.sizes()),
             request.type, device.str(), torch::get_num_threads(), request.rounds);
  for (const auto& [what, seconds] : {std::pair{"forward", forward}, {"forward + backward", both}})
    fmt::print("{:<20} {:10.3f} ms {:10.3f} ns per element of {}\n", what, 1e3 * seconds,
               1e9 * seconds / elements, layer.inputs[0].name);
}

void setup(CommandLine& app, int&) {
  app.require_subcommand(1);
  const auto request = std::make_shared<Request>();
  const auto verb = [&](const char* name, const char* what, void (*work)(const Request&)) {
    auto* sub = app.add_subcommand(name, what);
    sub->callback([request, work] { work(*request); });
    return sub;
  };
  const auto named = [&](CommandLine* sub) {
    sub->add_option("name", request->name, "a layer of `cajal layer list`")->required();
    return sub->add_option("--options", request->options, "JSON object of options");
  };
  const auto json = [&](CommandLine* sub) {
    sub->add_flag("--json", request->json, "one JSON object on stdout");
  };
  const auto seeded = [&](CommandLine* sub) {
    sub->add_option("--seed", request->seed, "of the parameters that no file gives");
    sub->add_option("--device", request->device, "auto, cpu, cuda or cuda:N");
  };

  json(verb("list", "the registered layers", list));

  auto* shown = verb("show", "options, parameters, inputs and outputs of a layer", show);
  named(shown);
  json(shown);

  auto* ran = verb("run", "a layer on the tensors of a safetensors file", run);
  named(ran)->required();
  ran->add_option("--weights", request->weights, "safetensors with every parameter by name");
  ran->add_option("--input", request->input,
                  "safetensors with the inputs by name, and `cotangent` or `cotangent.OUTPUT`")
      ->required();
  ran->add_option("--output", request->output, "safetensors to write: the outputs by name")
      ->required();
  ran->add_flag("--grad", request->gradients,
                "also grad.NAME of sum(output * cotangent) for inputs and parameters");
  ran->add_flag("--train", request->training, "training mode (batch statistics, dropout)");
  seeded(ran);

  auto* timed = verb("time", "forward and backward, median of many", time);
  named(timed);
  timed->add_option("--shape", request->shapes, "of an input: 8,128,64 or NAME=8,128,64");
  timed->add_option("--type", request->type, "of the numbers")
      ->one_of({"f32", "f64", "bf16", "f16"});
  timed->add_option("--threads", request->threads, "0: every processor");
  timed->add_option("--rounds", request->rounds, "how many times each is timed");
  seeded(timed);
  json(timed);
}

const auto registered =
    verbs().add("layer", {"any registered layer on its own: list, show, run, time", setup});

}  // namespace
}  // namespace cajal
