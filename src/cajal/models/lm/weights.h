#pragma once
#include <string>
#include <utility>
#include <vector>

#include "cajal/engine/names.h"
#include "cajal/models/lm/transformer.h"

namespace cajal::lm {

/// One axis of a stored tensor: its size and the field of config.json that says so.
struct Axis {
  int64_t size;
  std::string label;
};

/// A part of a model that one stored tensor fills.
struct WeightSlot {
  std::string name;        // ours, e.g. "blocks.3.attention.query.weight"
  std::vector<Axis> axes;  // as a float file stores it

  /// One of the two, each part with its own name: matrices stacked by rows (one, or the gate and
  /// key that Phi-3 fuses), or vectors one behind the other.
  std::vector<std::pair<std::string, Matrix*>> matrices = {};
  std::vector<std::pair<std::string, torch::Tensor*>> vectors = {};

  Major major = Major::output;
  Format format = Format::f32;  // quantised: bytes of that format are expected; else any float
  bool optional = false;        // a vocabulary that may be tied instead
  std::string theirs = {};      // stored name, where it is not the map's
};

/// Every stored tensor of a model (by its config and layout), in the order in which they are
/// written. Makes the groups of neurons that the layout asks for.
std::vector<WeightSlot> weight_slots(TransformerImpl& model, const NameMap& map,
                                     std::string_view prefix);

/// Gives layers that share an FFN their owner's matrices, by the layout; after every change of
/// them.
void tie_ffns(TransformerImpl& model);

/// Makes the slots' tensors parameters (`trainable`) or buffers of the module, under our names.
void register_weights(TransformerImpl& model, std::vector<WeightSlot>& slots, bool trainable);

}  // namespace cajal::lm
