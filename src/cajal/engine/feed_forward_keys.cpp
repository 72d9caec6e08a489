#include <algorithm>
#include <cmath>
#include <numeric>

#include "cajal/engine/feed_forward_pass.h"

namespace cajal::engine {

void Pass::evaluate_groups() {
  std::vector<int64_t> first = {0};
  for (const auto& active : active_)
    first.push_back(first.back() + static_cast<int64_t>(active.groups.size()));
  for (const auto& active : active_) {
    const auto& section = *active.section;
    if (is_quantised(bank_.gated() ? section.gate.format() : section.key.format()))
      inputs_.rounded();  // before threads ask for it
    for (const auto* matrix : {&section.key, &section.gate})
      count_.bytes += static_cast<int64_t>(active.groups.size()) *
                      (matrix->bytes() > 0 ? matrix->group_bytes() : 0);
  }
  threads_.parallel_for(first.back(), 1, [&](int64_t begin, int64_t end) {
    for (size_t s = 0; s < active_.size(); ++s) {
      const int64_t from = std::max(begin, first[s]), to = std::min(end, first[s + 1]);
      if (from < to) evaluate_part(active_[s], from - first[s], to - first[s]);
    }
  });
}

void Pass::evaluate_part(ActiveNeurons& active, int64_t begin, int64_t end) {
  const auto& section = *active.section;
  const auto groups = RowSet::list(active.groups);
  const auto product = [&](const PackedMatrix& matrix, const std::vector<float>& bias,
                           std::vector<float>& out) {
    multiply_part(matrix, groups, begin, end, inputs_.for_format(matrix.format()), out.data());
    if (bias.empty()) return;
    for (int64_t b = 0; b < batch_; ++b)
      for (int64_t i = kTileRows * begin; i < kTileRows * end; ++i)
        out[b * active.places + i] += bias[active.place(i)];
  };
  if (bank_.gated()) product(section.gate, section.gate_bias, active.gate);
  if (!keys_by_neuron()) product(section.key, section.key_bias, active.act);
  apply(active, kTileRows * begin, kTileRows * (end - begin));
}

void Pass::apply(ActiveNeurons& active, int64_t begin, int64_t count) {
  for (int64_t b = 0; b < batch_; ++b) {
    const int64_t at = b * active.places + begin;
    float *act = active.act.data() + at, *gate = active.gate.data() + at;
    if (!bank_.gated()) {
      apply_law(bank_.law(), act, count, act);
      continue;
    }
    apply_law(bank_.law(), gate, count, gate);
    if (selector_.silent)  // before the product, which may be small for another reason
      for (int64_t i = 0; i < count; ++i)
        if (std::fabs(gate[i]) <= *selector_.silent) gate[i] = 0;
    if (keys_by_neuron()) continue;
    for (int64_t i = 0; i < count; ++i) act[i] *= gate[i];
  }
}

void Pass::evaluate_by_inputs() {
  const float least = selector_.silent_input.value_or(-1.0f);
  std::vector<int32_t> inputs;
  for (int32_t c = 0; c < bank_.width(); ++c)
    for (int64_t b = 0; b < batch_; ++b)
      if (!(std::fabs(x_[b * bank_.width() + c]) <= least)) {
        inputs.push_back(c);
        break;
      }
  std::vector<float> loud(batch_ * inputs.size());
  for (int64_t b = 0; b < batch_; ++b)
    for (size_t i = 0; i < inputs.size(); ++i) {
      const float value = x_[b * bank_.width() + inputs[i]];
      loud[b * inputs.size() + i] = std::fabs(value) <= least ? 0 : value;
    }
  std::vector<float> sums;
  for (auto& active : active_) {
    const auto& section = *active.section;
    const auto product = [&](const OwnedRows& rows, const std::vector<float>& bias,
                             std::vector<float>& out) {
      sums.assign(batch_ * rows.view.width, 0.0f);
      gather_axpy(rows.view, RowSet::list(inputs), loud.data(), batch_, sums.data(), threads_);
      count_.bytes += static_cast<int64_t>(inputs.size()) * rows.view.stride;
      for (int64_t b = 0; b < batch_; ++b)
        for (int64_t i = 0; i < active.places; ++i)
          out[b * active.places + i] =
              sums[b * rows.view.width + i] + (bias.empty() ? 0.0f : bias[i]);
    };
    if (bank_.gated()) product(section.gate_rows, section.gate_bias, active.gate);
    product(section.key_rows, section.key_bias, active.act);
    apply(active, 0, active.places);
  }
}

void Pass::evaluate_neurons(ActiveNeurons& active) {
  const auto& section = *active.section;
  const auto rows = chosen_places(section);
  const auto count = static_cast<int64_t>(rows.size());
  std::vector<float> act(batch_ * count);
  dot_keys(section, rows, act.data());
  apply_law(bank_.law(), act.data(), batch_ * count, act.data());
  for (int64_t b = 0; b < batch_ && batch_ > 1; ++b) leave_out_of(b, section, rows, act.data());
  const auto live = live_places(act, count, silence());
  std::vector<int32_t> places(live.size());
  for (size_t k = 0; k < live.size(); ++k) places[k] = rows[live[k]];
  gather_neurons(active, std::move(places), live, act, count);
}

std::vector<int32_t> Pass::chosen_places(const Section& section) const {
  std::vector<int32_t> out;
  if (selection_.unit == Selection::Unit::all) {
    out.resize(section.neurons);
    std::iota(out.begin(), out.end(), 0);
    return out;
  }
  const int64_t unit = this->unit();
  const int64_t first = section.first_neuron() / unit,
                last = (section.first_neuron() + kTileRows * section.groups) / unit;
  for (int64_t b = 0; b < batch_; ++b)
    for (const int32_t of : selection_.of(b)) {
      if (of < first || of >= last) continue;
      for (int64_t i = (of - first) * unit; i < (of - first + 1) * unit; ++i)
        if (i < section.neurons) out.push_back(static_cast<int32_t>(i));
    }
  if (batch_ > 1) {
    std::sort(out.begin(), out.end());
    out.erase(std::unique(out.begin(), out.end()), out.end());
  }
  return out;
}

void Pass::leave_out_of(int64_t b, const Section& section, const std::vector<int32_t>& rows,
                        float* act) const {
  if (selection_.unit == Selection::Unit::all) return;
  const auto chosen = selection_.of(b);
  const int64_t unit = this->unit();
  auto next = chosen.begin();
  for (size_t i = 0; i < rows.size(); ++i) {
    const int64_t of = (section.first_neuron() + rows[i]) / unit;
    while (next != chosen.end() && *next < of) ++next;
    if (next == chosen.end() || *next != of) act[b * rows.size() + i] = 0;
  }
}

void Pass::dot_keys(const Section& section, const std::vector<int32_t>& places, float* out) {
  const auto& view = section.key_rows.view;
  const auto set = RowSet::list(places);
  if (is_quantised(view.format)) {
    dot_rows(view, set, inputs_.rounded(), out, threads_);
  } else {
    dot_rows(view, set, x_, batch_, out, threads_);
  }
  count_.bytes += set.count() * view.stride;
  if (section.key_bias.empty()) return;
  for (int64_t b = 0; b < batch_; ++b)
    for (size_t i = 0; i < places.size(); ++i)
      out[b * places.size() + i] += section.key_bias[places[i]];
}

}  // namespace cajal::engine
