#include "cajal/engine/feed_forward.h"

#include <algorithm>

#include "cajal/engine/feed_forward_pass.h"

namespace cajal::engine {

PassCount Pass::run(float* y, GroupEnergy* energy) {
  count_.of = bank_.neurons();
  choose();
  if (!bank_.gated() && keys_by_neuron()) {
    for (auto& active : active_) evaluate_neurons(active);
  } else {
    if (bank_.key_form() == Form::inputs) {
      evaluate_by_inputs();
    } else {
      evaluate_groups();
    }
    for (auto& active : active_) leave_out(active);
  }
  if (energy) watch(*energy);
  for (int64_t b = 0; b < batch_; ++b) {
    if (bank_.output_bias().empty()) {
      std::fill_n(y + b * bank_.width(), bank_.width(), 0.0f);
    } else {
      std::copy_n(bank_.output_bias().data(), bank_.width(), y + b * bank_.width());
    }
  }
  if (bank_.value_form() == Form::groups) {
    add_groups(y);
  } else {
    add_neurons(y);
  }
  return count_;
}

void Pass::choose() {
  if (selector_.choose) {
    selector_.choose(x_, batch_, threads_, selection_);
    count_.bytes += selector_.bytes;
  }
  std::vector<bool> wanted(bank_.groups(), selection_.unit == Selection::Unit::all);
  const int64_t each = kTileRows / unit();
  for (const int32_t of : selection_.chosen) {
    require(of >= 0 && of / each < bank_.groups(), "selector {}: it chose {} of {} groups",
            selector_.name, of / each, bank_.groups());
    wanted[of / each] = true;
  }
  for (const auto& section : bank_.sections()) {
    ActiveNeurons active;
    active.section = &section;
    for (int32_t g = 0; g < section.groups; ++g)
      if (wanted[section.first_group + g]) active.groups.push_back(g);
    active.places = kTileRows * static_cast<int64_t>(active.groups.size());
    active.act.resize(batch_ * active.places);
    if (bank_.gated()) active.gate.resize(batch_ * active.places);
    active_.push_back(std::move(active));
  }
}

void Pass::watch(GroupEnergy& energy) const {
  energy.of_group.resize(bank_.groups());
  for (const auto& active : active_) {
    const int64_t first = active.section->first_group;
    const int64_t each =
        bank_.value_form() == Form::neurons ? 1 : active.section->value.tile_columns();
    const auto count = each * static_cast<int64_t>(active.chosen.size());
    for (int64_t b = 0; b < batch_; ++b)
      for (int64_t i = 0; i < count; ++i) {
        const double act = active.chosen_act[b * count + i];
        const int64_t place = each * active.chosen[i / each] + i % each;
        if (place < active.section->neurons)
          energy.of_group[first + place / kTileRows] += act * act;
      }
  }
}

SparseFeedForward::SparseFeedForward(NeuronBank bank, Selector selector, int bits)
    : bank_(std::move(bank)), selector_(std::move(selector)), bits_(bits) {
  require(!selector_.silent_input || bank_.key_form() == Form::inputs,
          "selector {}: it skips inputs, which needs keys that lie by inputs", selector_.name);
  require(!selector_.choose || bank_.key_form() != Form::inputs,
          "selector {}: it chooses neurons, which needs keys in groups", selector_.name);
  require(bits == 8 || bits == 16, "activations can be rounded to 8 or 16 bits, not {}", bits);
}

PassCount SparseFeedForward::forward(const float* x, int64_t batch, float* y, ThreadPool& threads,
                                     GroupEnergy* energy) const {
  require(batch >= 0, "a batch of {}", batch);
  return Pass(bank_, selector_, bits_, x, batch, threads).run(y, energy);
}

}  // namespace cajal::engine
