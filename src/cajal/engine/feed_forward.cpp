#include "cajal/engine/feed_forward.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "cajal/kernels/places.h"

namespace cajal::engine {
namespace {

/// Vectors in the form that a matrix of some format reads; made when first asked for.
class Inputs {
 public:
  Inputs(const float* x, int64_t batch, int64_t width, int bits)
      : x_(x), batch_(batch), width_(width), bits_(bits) {}

  PackedInput for_format(Format format) {
    if (!is_quantised(format)) return {x_, batch_, width_};
    return rounded();
  }
  const RoundedActivations& rounded() {
    if (!rounded_) rounded_ = std::make_unique<RoundedActivations>(x_, batch_, width_, bits_);
    return *rounded_;
  }

 private:
  const float* x_;
  int64_t batch_, width_;
  int bits_;
  std::unique_ptr<RoundedActivations> rounded_;
};

/// The chosen neurons of a section and what they do; places count from the section's first one.
struct Active {
  const Section* section = nullptr;
  std::vector<int32_t> groups;       // that are evaluated, for any token
  int64_t places = 0;                // 32 a group
  std::vector<float> gate, act;      // [batch, places]
  std::vector<int32_t> chosen;       // places whose values are read, or their groups
  std::vector<float> chosen_act;     // [batch, chosen places]
  std::unique_ptr<Inputs> rounding;  // of chosen_act
};

/// Which of the places of `groups` hold a neuron.
bool is_neuron(const Active& active, int64_t i) {
  return kTileRows * active.groups[i / kTileRows] + i % kTileRows < active.section->neurons;
}

/// One pass of one batch through a bank.
class Pass {
 public:
  Pass(const NeuronBank& bank, const Selector& selector, int bits, const float* x, int64_t batch,
       ThreadPool& threads)
      : bank_(bank),
        selector_(selector),
        x_(x),
        batch_(batch),
        threads_(threads),
        bits_(bits),
        inputs_(x, batch, bank.width(), bits) {}

  PassCount run(float* y, GroupEnergy* energy) {
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

 private:
  bool keys_by_neuron() const { return bank_.key_form() == Form::neurons; }

  /// The groups that any token wants, section by section.
  void choose() {
    if (selector_.choose) {
      selector_.choose(x_, batch_, threads_, selection_);
      count_.bytes += selector_.bytes;
    }
    std::vector<bool> wanted(bank_.groups(), selection_.unit == Selection::Unit::all);
    const int64_t unit = selection_.unit == Selection::Unit::places ? kTileRows : 1;
    for (const int32_t of : selection_.chosen) {
      require(of >= 0 && of / unit < bank_.groups(), "selector {}: it chose {} of {} groups",
              selector_.name, of / unit, bank_.groups());
      wanted[of / unit] = true;
    }
    for (const auto& section : bank_.sections()) {
      Active active;
      active.section = &section;
      for (int32_t g = 0; g < section.groups; ++g)
        if (wanted[section.first_group + g]) active.groups.push_back(g);
      active.places = kTileRows * static_cast<int64_t>(active.groups.size());
      active.act.resize(batch_ * active.places);
      if (bank_.gated()) active.gate.resize(batch_ * active.places);
      active_.push_back(std::move(active));
    }
  }

  /// law(gate) and, unless they lie by neuron, keys, fused in one job over all sections.
  void evaluate_groups() {
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

  void evaluate_part(Active& active, int64_t begin, int64_t end) {
    const auto& section = *active.section;
    const auto groups = RowSet::list(active.groups);
    const auto product = [&](const PackedMatrix& matrix, const std::vector<float>& bias,
                             std::vector<float>& out) {
      multiply_part(matrix, groups, begin, end, inputs_.for_format(matrix.format()), out.data());
      if (bias.empty()) return;
      for (int64_t b = 0; b < batch_; ++b)
        for (int64_t i = kTileRows * begin; i < kTileRows * end; ++i)
          out[b * active.places + i] +=
              bias[kTileRows * active.groups[i / kTileRows] + i % kTileRows];
    };
    if (bank_.gated()) product(section.gate, section.gate_bias, active.gate);
    if (!keys_by_neuron()) product(section.key, section.key_bias, active.act);
    apply(active, kTileRows * begin, kTileRows * (end - begin));
  }

  /// The law, on `count` places of every token.
  void apply(Active& active, int64_t begin, int64_t count) {
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

  /// Keys and gates from the rows of the inputs that are not silent.
  void evaluate_by_inputs() {
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

  /// Neurons without gates whose keys lie by neuron: those that any token chose, and no others.
  void evaluate_neurons(Active& active) {
    const auto& section = *active.section;
    const auto rows = chosen_places(section);
    const auto count = static_cast<int64_t>(rows.size());
    std::vector<float> act(batch_ * count);
    dot_keys(section, rows, act.data());
    apply_law(bank_.law(), act.data(), batch_ * count, act.data());
    for (int64_t b = 0; b < batch_ && batch_ > 1; ++b) leave_out_of(b, section, rows, act.data());
    const auto live = live_places(act, count, silence());
    gather_neurons(active, live, act, count,
                   [&](int32_t i) { return rows[static_cast<size_t>(i)]; });
  }

  /// The places of a section that any token chose, ascending.
  std::vector<int32_t> chosen_places(const Section& section) const {
    std::vector<int32_t> out;
    if (selection_.unit == Selection::Unit::all) {
      out.resize(section.neurons);
      std::iota(out.begin(), out.end(), 0);
      return out;
    }
    const bool single = selection_.unit == Selection::Unit::places;
    const int64_t unit = single ? 1 : kTileRows;
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

  /// Zero for the rows that token b did not choose.
  void leave_out_of(int64_t b, const Section& section, const std::vector<int32_t>& rows,
                    float* act) const {
    if (selection_.unit == Selection::Unit::all) return;
    const auto chosen = selection_.of(b);
    const int64_t unit = selection_.unit == Selection::Unit::places ? 1 : kTileRows;
    auto next = chosen.begin();
    for (size_t i = 0; i < rows.size(); ++i) {
      const int64_t of = (section.first_neuron() + rows[i]) / unit;
      while (next != chosen.end() && *next < of) ++next;
      if (next == chosen.end() || *next != of) act[b * rows.size() + i] = 0;
    }
  }

  /// key . x + bias for places of a section whose keys lie by neuron: out [batch, places].
  void dot_keys(const Section& section, const std::vector<int32_t>& places, float* out) {
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

  /// Zero for what a token did not choose and for what falls silent; then the places, and the keys
  /// by neuron, of all others.
  void leave_out(Active& active) {
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
    while (!live.empty() && !is_neuron(active, live.back())) live.pop_back();
    if (keys_by_neuron()) add_keys(active, live);
    gather(active, live);
  }

  void mask(const Active& active, std::vector<float>& values) const {
    if (selection_.unit == Selection::Unit::all || batch_ == 0) return;
    const int64_t unit = selection_.unit == Selection::Unit::places ? 1 : kTileRows;
    if (batch_ == 1 && unit == kTileRows) return;  // its own groups are all there are
    for (int64_t b = 0; b < batch_; ++b) {
      const auto chosen = selection_.of(b);
      auto next = chosen.begin();
      for (int64_t i = 0; i < active.places; i += unit) {
        const int64_t place = active.section->first_neuron() +
                              kTileRows * active.groups[i / kTileRows] + i % kTileRows;
        next = std::lower_bound(next, chosen.end(), static_cast<int32_t>(place / unit));
        if (next == chosen.end() || *next != place / unit)
          std::fill_n(values.begin() + b * active.places + i, unit, 0.0f);
      }
    }
  }

  int32_t place(const Active& active, int32_t i) const {
    return static_cast<int32_t>(kTileRows * active.groups[i / kTileRows] + i % kTileRows);
  }

  /// act = gate * key for live places, the keys from rows of their own.
  void add_keys(Active& active, const std::vector<int32_t>& live) {
    std::vector<int32_t> rows;
    for (const int32_t i : live) rows.push_back(place(active, i));
    std::vector<float> keys(batch_ * rows.size());
    dot_keys(*active.section, rows, keys.data());
    for (int64_t b = 0; b < batch_; ++b)
      for (size_t k = 0; k < live.size(); ++k) {
        const int64_t at = b * active.places + live[k];
        active.act[at] = active.gate[at] * keys[b * rows.size() + k];
      }
  }

  /// The groups whose values are read, where these are groups of as many neurons as were evaluated.
  void gather_groups(Active& active) {
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

  /// Whether zeros are looked for; they come from thresholds and from lists of single places.
  bool skips() const {
    return selector_.silent || selector_.silent_activation ||
           selection_.unit == Selection::Unit::places;
  }

  /// Up to what size an activation (without gates: law(key)) is left out; -1: none is.
  float silence() const {
    if (selector_.silent_activation) return *selector_.silent_activation;
    if (!bank_.gated() && selector_.silent) return *selector_.silent;
    return skips() ? 0.0f : -1.0f;
  }

  /// The places where any token has a value [batch, count] of more than `least` in size, ascending.
  std::vector<int32_t> live_places(const std::vector<float>& values, int64_t count,
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

  /// The neurons whose value rows are read: place_of(i) for each live place i of act [batch,
  /// count].
  template <class PlaceOf>
  void gather_neurons(Active& active, const std::vector<int32_t>& live,
                      const std::vector<float>& act, int64_t count, const PlaceOf& place_of) {
    active.chosen.resize(live.size());
    for (size_t k = 0; k < live.size(); ++k) active.chosen[k] = place_of(live[k]);
    active.chosen_act.resize(batch_ * live.size());
    for (int64_t b = 0; b < batch_; ++b)
      for (size_t k = 0; k < live.size(); ++k)
        active.chosen_act[b * live.size() + k] = act[b * count + live[k]];
    count_.neurons += static_cast<int64_t>(live.size());
  }

  /// What the value stage reads: the places or groups of live neurons and their activations.
  void gather(Active& active, const std::vector<int32_t>& live) {
    if (bank_.value_form() == Form::neurons)
      return gather_neurons(active, live, active.act, active.places,
                            [&](int32_t i) { return place(active, i); });
    const int64_t slab = active.section->value.tile_columns();
    for (const int32_t i : live) {
      const auto of = static_cast<int32_t>(place(active, i) / slab);
      if (active.chosen.empty() || active.chosen.back() != of) active.chosen.push_back(of);
    }
    const auto count = static_cast<int64_t>(active.chosen.size());
    active.chosen_act.assign(batch_ * slab * count, 0.0f);
    int64_t slot = -1;
    int32_t last = -1;
    for (const int32_t i : live) {
      const auto at = place(active, i);
      if (at / slab != last) last = static_cast<int32_t>(at / slab), ++slot;
      for (int64_t b = 0; b < batch_; ++b)
        active.chosen_act[b * slab * count + slot * slab + at % slab] =
            active.act[b * active.places + i];
    }
    for (const int32_t of : active.chosen)
      count_.neurons += std::min(slab, active.section->neurons - of * slab);
  }

  void add_groups(float* y) {
    std::vector<RowSet> sets;
    std::vector<Term> terms;
    sets.reserve(active_.size());
    for (auto& active : active_) {
      const auto count = static_cast<int64_t>(active.chosen.size());
      if (count == 0) continue;
      const auto& matrix = active.section->value;
      active.rounding = std::make_unique<Inputs>(active.chosen_act.data(), batch_,
                                                 count * matrix.tile_columns(), bits_);
      sets.push_back(RowSet::list(active.chosen));
      terms.push_back({matrix, sets.back(), active.rounding->for_format(matrix.format())});
      count_.bytes += count * matrix.group_bytes();
    }
    accumulate(terms, y, threads_);
  }

  void add_neurons(float* y) {
    for (const auto& active : active_) {
      const auto& view = active.section->value_rows.view;
      gather_axpy(view, RowSet::list(active.chosen), active.chosen_act.data(), batch_, y, threads_);
      count_.bytes += static_cast<int64_t>(active.chosen.size()) * view.stride;
    }
  }

  void watch(GroupEnergy& energy) const {
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

  const NeuronBank& bank_;
  const Selector& selector_;
  const float* x_;
  int64_t batch_;
  ThreadPool& threads_;
  int bits_;
  Inputs inputs_;
  Selection selection_;
  std::vector<Active> active_;
  PassCount count_;
};

}  // namespace

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
