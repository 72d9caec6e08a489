#pragma once
#include <functional>
#include <optional>
#include <vector>

#include "cajal/engine/feed_forward.h"
#include "cajal/engine/network.h"

namespace cajal::engine {

/// How the feed-forward networks of a model are re-laid: see BankPlan for the fields.
struct BanksOptions {
  std::optional<Format> format = {};             // of all neurons; nothing: as they are stored
  std::vector<std::vector<int32_t>> order = {};  // [layers] of neurons, or empty: as they are
  Form key = Form::groups, gate = Form::groups, value = Form::groups;
  std::vector<Form> layer_key = {};  // [layers] instead of `key`, or empty
  int bits = 8;                      // that vectors are rounded to in front of quantised matrices
};

/// Chooses the selector of a layer.
using LayerSelector = std::function<Selector(int64_t layer, const NeuronBank& bank)>;

/// Puts the neurons of every layer into a bank behind a selector, in place of the stored network,
/// whose mapped bytes are then free to leave memory. What every pass read and did is added to
/// `count`, which must outlive the network. Throws Error when a format or form does not fit and
/// when the network is packed.
void use_banks(Network& network, const BanksOptions& options, const LayerSelector& selector,
               PassCount* count = nullptr);

}  // namespace cajal::engine
