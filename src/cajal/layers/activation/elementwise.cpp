#include "cajal/neurons/elementwise.h"

#include <cmath>

#include "cajal/layers/layer.h"

namespace cajal {
namespace {

/// Options as the command line has them: the law's parameters by name, and how they are shared.
ElementwiseOptions options_of(const laws::Law& law, const Json& json) {
  ElementwiseOptions out{.law = law.name};
  options::require_object(json, law.name);
  for (const auto& item : json.items()) {
    const auto where = fmt::format("{}.{}", law.name, item.key());
    bool found = false;
    for (const auto& parameter : law.parameters) found = found || item.key() == parameter.name;
    if (found) continue;
    std::vector<std::string_view> known;
    for (const auto& parameter : law.parameters) known.emplace_back(parameter.name);
    if (law.learned > 0) known.insert(known.end(), {"per", "channels", "axis", "learn"});
    if (law.learned > 0 && item.key() == "per") {
      options::read(item.value(), where, out.per);
    } else if (law.learned > 0 && item.key() == "channels") {
      options::read(item.value(), where, out.channels);
    } else if (law.learned > 0 && item.key() == "axis") {
      options::read(item.value(), where, out.axis);
    } else if (law.learned > 0 && item.key() == "learn") {
      options::read(item.value(), where, out.learn);
    } else {
      fail("{}: unknown option '{}'{}; its options are {}", law.name, item.key(),
           did_you_mean(item.key(), known),
           known.empty() ? "none" : fmt::format("{}", fmt::join(known, ", ")));
    }
  }
  for (const auto& parameter : law.parameters) {
    double value = parameter.start;
    if (json.contains(parameter.name))
      options::read(json.at(parameter.name), fmt::format("{}.{}", law.name, parameter.name), value);
    out.start.push_back(value);
  }
  return out;
}

Json written(const laws::Law& law, const ElementwiseOptions& options) {
  Json json = Json::object();
  for (size_t i = 0; i < law.parameters.size(); ++i)
    json[law.parameters[i].name] = options.start[i];
  if (law.learned == 0) return json;
  json["per"] = to_name(options.per), json["channels"] = options.channels;
  json["axis"] = options.axis, json["learn"] = options.learn;
  return json;
}

bool add_law(const laws::Law& law) {
  const std::vector<layers::Port> in = {{"x", "[...]"}}, out = {{"y", "[...]"}};
  const auto build = [&law, in, out](const Json& json) {
    const auto options = options_of(law, json);
    const auto module = std::make_shared<ElementwiseImpl>(options);
    const auto call = [module](const NamedTensors& tensors) {
      return NamedTensors{{"y", module->forward(tensors.at("x"))}};
    };
    return layers::Layer{law.name, written(law, options), module, in, out, call};
  };
  const auto defaults = written(law, options_of(law, Json::object()));
  auto example = defaults;  // off the kinks that some laws have in a parameter near 0
  for (int i = 0; i < law.learned; ++i)
    if (std::abs(law.parameters[i].start) < 1e-3) example[law.parameters[i].name] = 0.1;
  return layers::registry().add(law.name,
                                {.summary = fmt::format("activation: {}", law.formula),
                                 .defaults = defaults,
                                 .example = example,
                                 .inputs = in,
                                 .outputs = out,
                                 .axes = {.sizes = {}, .rest = std::vector<int64_t>{4, 6}},
                                 .build = build});
}

const auto registered = [] {
  for (const auto& law : laws::all()) add_law(law);
  return true;
}();

}  // namespace
}  // namespace cajal
