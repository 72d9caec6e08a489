#pragma once
#include <memory>
#include <vector>

#include "cajal/engine/feed_forward.h"

// One pass of one batch through a bank, the inside of SparseFeedForward: which groups are looked
// at, what their neurons do (feed_forward_keys.cpp), and what they write (feed_forward_values.cpp).
namespace cajal::engine {

/// Vectors in the form that a matrix of some format reads; made when first asked for.
class PassInputs {
 public:
  PassInputs(const float* x, int64_t batch, int64_t width, int bits)
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
struct ActiveNeurons {
  const Section* section = nullptr;
  std::vector<int32_t> groups;           // that are evaluated, for any token
  int64_t places = 0;                    // 32 a group
  std::vector<float> gate, act;          // [batch, places]
  std::vector<int32_t> chosen;           // places whose values are read, or their groups
  std::vector<float> chosen_act;         // [batch, chosen places]
  std::unique_ptr<PassInputs> rounding;  // of chosen_act

  /// Where place i of the groups lies in the section; behind its last neuron in a ragged group.
  int32_t place(int64_t i) const {
    return static_cast<int32_t>(kTileRows * groups[i / kTileRows] + i % kTileRows);
  }
};

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

  /// Sets y [batch, width]; the energies where they are asked for.
  PassCount run(float* y, GroupEnergy* energy);

 private:
  /// The groups that any token wants, section by section.
  void choose();
  /// law(gate) and, unless they lie by neuron, keys, fused in one job over all sections.
  void evaluate_groups();
  void evaluate_part(ActiveNeurons& active, int64_t begin, int64_t end);
  /// The law, on `count` places of every token.
  void apply(ActiveNeurons& active, int64_t begin, int64_t count);
  /// Keys and gates from the rows of the inputs that are not silent.
  void evaluate_by_inputs();
  /// Neurons without gates whose keys lie by neuron: those that any token chose, and no others.
  void evaluate_neurons(ActiveNeurons& active);
  /// The places of a section that any token chose, ascending.
  std::vector<int32_t> chosen_places(const Section& section) const;
  /// Zero for the rows that token b did not choose.
  void leave_out_of(int64_t b, const Section& section, const std::vector<int32_t>& rows,
                    float* act) const;
  /// key . x + bias for places of a section whose keys lie by neuron: out [batch, places].
  void dot_keys(const Section& section, const std::vector<int32_t>& places, float* out);
  /// Zero for what a token did not choose and for what falls silent; then the places, and the keys
  /// by neuron, of all others.
  void leave_out(ActiveNeurons& active);
  void mask(const ActiveNeurons& active, std::vector<float>& values) const;
  /// act = gate * key for live places, the keys from rows of their own.
  void add_keys(ActiveNeurons& active, const std::vector<int32_t>& live);
  /// The groups whose values are read, where these are groups of as many neurons as were evaluated.
  void gather_groups(ActiveNeurons& active);
  /// Up to what size an activation (without gates: law(key)) is left out; -1: none is.
  float silence() const;
  /// The places where any token has a value [batch, count] of more than `least` in size, ascending.
  std::vector<int32_t> live_places(const std::vector<float>& values, int64_t count,
                                   float least) const;
  /// Value rows `places` are read, with the activations act [batch, count] of `live`, one a place.
  void gather_neurons(ActiveNeurons& active, std::vector<int32_t> places,
                      const std::vector<int32_t>& live, const std::vector<float>& act,
                      int64_t count);
  /// What the value stage reads: the places or groups of live neurons and their activations.
  void gather(ActiveNeurons& active, const std::vector<int32_t>& live);
  void add_groups(float* y);
  void add_neurons(float* y);
  void watch(GroupEnergy& energy) const;

  bool keys_by_neuron() const { return bank_.key_form() == Form::neurons; }
  /// Whether zeros are looked for; they come from thresholds and from lists of single places.
  bool skips() const {
    return selector_.silent || selector_.silent_activation ||
           selection_.unit == Selection::Unit::places;
  }
  /// Places in what the selection counts.
  int64_t unit() const { return selection_.unit == Selection::Unit::places ? 1 : kTileRows; }

  const NeuronBank& bank_;
  const Selector& selector_;
  const float* x_;
  int64_t batch_;
  ThreadPool& threads_;
  int bits_;
  PassInputs inputs_;
  Selection selection_;
  std::vector<ActiveNeurons> active_;
  PassCount count_;
};

}  // namespace cajal::engine
