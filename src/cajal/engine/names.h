#pragma once
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cajal/core/tensors.h"
#include "cajal/engine/config.h"

namespace cajal::lm {

/// Where a family's files keep a part: our path and theirs, "*" for the layer, "@" for the prefix
/// of the base model. A path names a module (".weight" and ".bias" follow on both sides) or a whole
/// tensor.
struct NameRule {
  std::string_view ours, theirs;
};

/// The names of one family's files, as data; read in both directions.
struct NameMap {
  std::span<const NameRule> rules;
  std::vector<std::string_view> prefixes;  // "@": first the one to write, then others met in files
  bool conv1d = false;                     // matrices of blocks are stored [inputs, outputs]
  bool fused_by_head = false;              // GPT-NeoX's order of fused queries, keys and values
};

/// The maps a file of this family may follow: Hugging Face's first, then others (timm).
std::span<const NameMap> name_maps(Family family);

/// Their name of our tensor, e.g. "blocks.3.attention.query.weight" ->
/// "model.layers.3.self_attn.q_proj.weight"; empty where the family keeps no such tensor.
std::string stored_name(const NameMap& map, std::string_view prefix, std::string_view ours);

/// Whether the map keeps this module or tensor, e.g. "blocks.*.attention.fused".
bool has_part(const NameMap& map, std::string_view ours);

/// The map and the prefix that the tensors of `file` follow; the family's own where none fits.
struct Naming {
  const NameMap* map = nullptr;
  std::string_view prefix;

  std::string of(std::string_view ours) const { return stored_name(*map, prefix, ours); }
};
Naming find_naming(const Config& config, const TensorFile& file);

/// What a checkpoint of this config is written with before base names: none for a model without
/// head.
std::string_view written_prefix(const NameMap& map, const Config& config);

/// The module above a layer's feed-forward matrices, under which a split model keeps its groups:
/// "model.layers.3.mlp" for Llama, "model.decoder.layers.3" for OPT.
std::string ffn_module(const NameMap& map, std::string_view prefix, int64_t layer);

/// Whether a tensor that a file holds and this model has no place for may be passed over: buffers,
/// copies of tied weights, and parts of heads that are not in use.
bool is_ignorable(std::string_view stored_name, const Config& config);

/// Whether `name` fits `pattern`, in which * stands for any run of characters.
bool matches(std::string_view pattern, std::string_view name);

}  // namespace cajal::lm
