#include "cajal/engine/packed_layout.h"

#include "cajal/core/error.h"

namespace cajal::lm {
namespace {

std::vector<GroupLayout> read_groups(const Json& layer, const std::string& where, const Config& c) {
  options::require_object(layer, where);
  require(layer.contains("groups"), "{}: field 'groups' is missing", where);
  std::vector<GroupLayout> groups;
  options::read(layer.at("groups"), where + ".groups", groups);
  int64_t total = 0;
  for (size_t g = 0; g < groups.size(); ++g) {
    const auto& group = groups[g];
    const auto at = fmt::format("{}.groups[{}]", where, g);
    require(group.neurons >= 1 && group.neurons <= c.neurons - total,
            "{}.neurons is {}, expected 1 to {} (neurons left of {})", at, group.neurons,
            c.neurons - total, c.neurons);
    total += group.neurons;
    for (const Format format : {group.key, group.value}) require_row(format, c.width, at);
    if (c.gated) require_row(group.gate, c.width, at);
  }
  require(total == c.neurons, "{}: groups hold {} neurons, expected {}", where, total, c.neurons);
  return groups;
}

}  // namespace

PackedLayout read_packed_layout(const Config& c, const std::string& where) {
  PackedLayout layout;
  if (!c.source.is_object() || !c.source.contains("cajal")) return layout;
  const auto at = where + ": cajal";
  const Json& json = c.source.at("cajal");
  options::require_object(json, at);
  require(
      !json.contains("adapters"),
      "{}.adapters: this model was tuned with routed FFNs or sparse attention; 'cajal eval' runs "
      "it",
      at);
  options::refuse_unknown_keys(json, at, {"split", "tensors", "shared_ffn"});
  if (json.contains("split")) {
    const Json& split = json.at("split");
    require(split.is_array() && static_cast<int64_t>(split.size()) == c.layers,
            "{}.split: expected an array with one entry for each of {} layers", at, c.layers);
    for (size_t layer = 0; layer < split.size(); ++layer)
      layout.split.push_back(read_groups(split[layer], fmt::format("{}.split[{}]", at, layer), c));
  }
  if (json.contains("shared_ffn")) {
    options::read(json.at("shared_ffn"), at + ".shared_ffn", layout.shared_ffn);
    require(std::ssize(layout.shared_ffn) == c.layers && layout.split.empty(),
            "{}.shared_ffn: expected one entry for each of {} layers, and no split", at, c.layers);
    for (int64_t layer = 0; layer < c.layers; ++layer) {
      const int64_t owner = layout.shared_ffn[static_cast<size_t>(layer)];
      require(
          owner >= 0 && owner <= layer && layout.shared_ffn[static_cast<size_t>(owner)] == owner,
          "{}.shared_ffn[{}] is {}, expected the layer or an earlier one that uses its own", at,
          layer, owner);
    }
  }
  if (json.contains("tensors")) {
    options::require_object(json.at("tensors"), at + ".tensors");
    for (const auto& [name, format] : json.at("tensors").items())
      options::read(format, fmt::format("{}.tensors.{}", at, name), layout.tensors[name]);
  }
  return layout;
}

Json packed_layout_to_json(const PackedLayout& layout) {
  Json json = Json::object();
  if (!layout.split.empty()) {
    json["split"] = Json::array();
    for (const auto& groups : layout.split)
      json["split"].push_back({{"groups", options::write(groups)}});
  }
  if (!layout.shared_ffn.empty()) json["shared_ffn"] = layout.shared_ffn;
  if (!layout.tensors.empty()) {
    json["tensors"] = Json::object();
    for (const auto& [name, format] : layout.tensors) json["tensors"][name] = to_name(format);
  }
  return json;
}

}  // namespace cajal::lm
