#include <algorithm>
#include <cmath>

#include "cajal/engine/feed_forward_pass.h"
#include "cajal/kernels/places.h"

namespace cajal::engine {

void Pass::leave_out(ActiveNeurons& active) {
  auto& deciding = bank_.gated() && keys_by_neuron() ? active.gate : active.act;
  mask(active, deciding);
  const auto least = bank_.gated()                 ? selector_.silent_activation
                     : selector_.silent_activation ? selector_.silent_activation
                                                   : selector_.silent;
  if (least && !keys_by_neuron())
    for (auto& value : deciding)
      if (std::fabs(value) <= *least) value = 0;
  if (bank_.value_form() == Form::groups && !keys_by_neuron() &&
      active.section->value.tile_columns() == kTileRows)
    return gather_groups(active);
  auto live = live_places(deciding, active.places, skips() ? 0.0f : -1.0f);  // of `places`
  while (!live.empty() && active.place(live.back()) >= active.section->neurons) live.pop_back();
  if (keys_by_neuron()) add_keys(active, live);
  gather(active, live);
}

void Pass::mask(const ActiveNeurons& active, std::vector<float>& values) const {
  if (selection_.unit == Selection::Unit::all || batch_ == 0) return;
  const int64_t unit = this->unit();
  if (batch_ == 1 && unit == kTileRows) return;  // its own groups are all there are
  for (int64_t b = 0; b < batch_; ++b) {
    const auto chosen = selection_.of(b);
    auto next = chosen.begin();
    for (int64_t i = 0; i < active.places; i += unit) {
      const int64_t place = active.section->first_neuron() + active.place(i);
      next = std::lower_bound(next, chosen.end(), static_cast<int32_t>(place / unit));
      if (next == chosen.end() || *next != place / unit)
        std::fill_n(values.begin() + b * active.places + i, unit, 0.0f);
    }
  }
}

void Pass::add_keys(ActiveNeurons& active, const std::vector<int32_t>& live) {
  std::vector<int32_t> rows;
  for (const int32_t i : live) rows.push_back(active.place(i));
  std::vector<float> keys(batch_ * rows.size());
  dot_keys(*active.section, rows, keys.data());
  for (int64_t b = 0; b < batch_; ++b)
    for (size_t k = 0; k < live.size(); ++k) {
      const int64_t at = b * active.places + live[k];
      active.act[at] = active.gate[at] * keys[b * rows.size() + k];
    }
}

void Pass::gather_groups(ActiveNeurons& active) {
  const int64_t ragged = active.section->neurons % kTileRows;
  if (ragged > 0 && !active.groups.empty() && active.groups.back() == active.section->groups - 1)
    for (int64_t b = 0; b < batch_; ++b)
      std::fill_n(active.act.begin() + (b + 1) * active.places - (kTileRows - ragged),
                  kTileRows - ragged, 0.0f);
  const auto is_live = [&](size_t k) {
    for (int64_t b = 0; b < batch_; ++b) {
      const float* of = active.act.data() + b * active.places + kTileRows * k;
      if (std::any_of(of, of + kTileRows, [](float a) { return a != 0; })) return true;
    }
    return false;
  };
  std::vector<int32_t> live;  // among `groups`
  for (size_t k = 0; k < active.groups.size(); ++k)
    if (!skips() || is_live(k)) live.push_back(static_cast<int32_t>(k));
  for (const int32_t k : live) active.chosen.push_back(active.groups[k]);
  count_.neurons += kTileRows * static_cast<int64_t>(live.size());
  if (ragged > 0 && !active.chosen.empty() && active.chosen.back() == active.section->groups - 1)
    count_.neurons -= kTileRows - ragged;
  if (live.size() == active.groups.size()) {
    active.chosen_act = active.act;
    return;
  }
  active.chosen_act.resize(batch_ * kTileRows * live.size());
  for (int64_t b = 0; b < batch_; ++b)
    for (size_t i = 0; i < live.size(); ++i)
      std::copy_n(active.act.begin() + b * active.places + kTileRows * live[i], kTileRows,
                  active.chosen_act.begin() + kTileRows * (b * live.size() + i));
}

float Pass::silence() const {
  if (selector_.silent_activation) return *selector_.silent_activation;
  if (!bank_.gated() && selector_.silent) return *selector_.silent;
  return skips() ? 0.0f : -1.0f;
}

std::vector<int32_t> Pass::live_places(const std::vector<float>& values, int64_t count,
                                       float least) const {
  if (batch_ == 1) return loud_places(values.data(), count, least);
  std::vector<int32_t> out;
  for (int64_t i = 0; i < count; ++i)
    for (int64_t b = 0; b < batch_; ++b)
      if (!(std::fabs(values[b * count + i]) <= least)) {
        out.push_back(static_cast<int32_t>(i));
        break;
      }
  return out;
}

void Pass::gather_neurons(ActiveNeurons& active, std::vector<int32_t> places,
                          const std::vector<int32_t>& live, const std::vector<float>& act,
                          int64_t count) {
  active.chosen = std::move(places);
  active.chosen_act.resize(batch_ * live.size());
  for (int64_t b = 0; b < batch_; ++b)
    for (size_t k = 0; k < live.size(); ++k)
      active.chosen_act[b * live.size() + k] = act[b * count + live[k]];
  count_.neurons += static_cast<int64_t>(live.size());
}

void Pass::gather(ActiveNeurons& active, const std::vector<int32_t>& live) {
  if (bank_.value_form() == Form::neurons) {
    std::vector<int32_t> places(live.size());
    for (size_t k = 0; k < live.size(); ++k) places[k] = active.place(live[k]);
    return gather_neurons(active, std::move(places), live, active.act, active.places);
  }
  const int64_t slab = active.section->value.tile_columns();
  for (const int32_t i : live) {
    const auto of = static_cast<int32_t>(active.place(i) / slab);
    if (active.chosen.empty() || active.chosen.back() != of) active.chosen.push_back(of);
  }
  const auto count = static_cast<int64_t>(active.chosen.size());
  active.chosen_act.assign(batch_ * slab * count, 0.0f);
  int64_t slot = -1;
  int32_t last = -1;
  for (const int32_t i : live) {
    const auto at = active.place(i);
    if (at / slab != last) last = static_cast<int32_t>(at / slab), ++slot;
    for (int64_t b = 0; b < batch_; ++b)
      active.chosen_act[b * slab * count + slot * slab + at % slab] =
          active.act[b * active.places + i];
  }
  for (const int32_t of : active.chosen)
    count_.neurons += std::min(slab, active.section->neurons - of * slab);
}

void Pass::add_groups(float* y) {
  std::vector<RowSet> sets;
  std::vector<Term> terms;
  sets.reserve(active_.size());
  for (auto& active : active_) {
    const auto count = static_cast<int64_t>(active.chosen.size());
    if (count == 0) continue;
    const auto& matrix = active.section->value;
    active.rounding = std::make_unique<PassInputs>(active.chosen_act.data(), batch_,
                                                   count * matrix.tile_columns(), bits_);
    sets.push_back(RowSet::list(active.chosen));
    terms.push_back({matrix, sets.back(), active.rounding->for_format(matrix.format())});
    count_.bytes += count * matrix.group_bytes();
  }
  accumulate(terms, y, threads_);
}

void Pass::add_neurons(float* y) {
  for (const auto& active : active_) {
    const auto& view = active.section->value_rows.view;
    gather_axpy(view, RowSet::list(active.chosen), active.chosen_act.data(), batch_, y, threads_);
    count_.bytes += static_cast<int64_t>(active.chosen.size()) * view.stride;
  }
}

}  // namespace cajal::engine
