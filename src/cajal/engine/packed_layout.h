#pragma once
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "cajal/engine/config.h"
#include "cajal/engine/router.h"
#include "cajal/kernels/formats/format.h"

namespace cajal::lm {

/// How one group of a split layer is stored: one row a neuron in every matrix.
struct GroupLayout {
  int64_t neurons = 0;
  Format key = Format::f32, gate = Format::f32, value = Format::f32;
};
CAJAL_OPTIONS(GroupLayout, neurons, key, gate, value)

/// Every FFN cut into `count` equal runs of neurons, experts, of which a token uses `active`.
struct ExpertLayout {
  int64_t count = 0;
  std::vector<int64_t> active;  // [layers]
  RouterKind router = RouterKind::mlp;
};
CAJAL_OPTIONS(ExpertLayout, count, active, router)

/// What the key "cajal" of a config.json says of tensors that are not plain floats:
///   {"split": [{"groups": [{"neurons": 64, "key": "q8_0", "value": "q4_0"}, ...]}, ...],
///    "tensors": {"lm_head.weight": "q8_0", ...}}
/// `split` has one entry a layer: its groups in stored order, kept as U8 [neurons, row bytes] (or
/// floats [neurons, width]) under <ffn module>.groups.G.{key,gate,value}, their biases beside them,
/// the order of the neurons as I32 <ffn module>.neuron_order. `tensors` gives the format of whole
/// tensors stored as U8 [rows, row bytes]. {"shared_ffn": [0, 0, 2, ...]} says whose FFN each layer
/// uses: its own number, or that of an earlier layer, whose tensors are then stored once.
/// {"experts": {"count": 38, "active": [10, ...], "router": "mlp"}} cuts FFNs into experts; the
/// routers lie beside the model in routers.safetensors as layers.L.first [experts, width] and, for
/// mlp, layers.L.second [experts, experts].
struct PackedLayout {
  std::vector<std::vector<GroupLayout>> split;  // [layers][groups] or empty
  std::map<std::string, Format> tensors;
  std::vector<int64_t> shared_ffn = {};  // [layers] or empty
  std::optional<ExpertLayout> experts = {};

  bool empty() const { return split.empty() && tensors.empty() && shared_ffn.empty() && !experts; }
  /// The layer whose FFN tensors `layer` uses.
  int64_t ffn_owner(int64_t layer) const {
    return shared_ffn.empty() ? layer : shared_ffn[static_cast<size_t>(layer)];
  }
};

/// Reads and checks it against the sizes of `config`; empty where config.json has no such key.
PackedLayout read_packed_layout(const Config& config, const std::string& where);

/// The JSON of the key "cajal".
Json packed_layout_to_json(const PackedLayout& layout);

}  // namespace cajal::lm
