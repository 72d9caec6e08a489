#pragma once
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "cajal/core/options.h"
#include "cajal/kernels/law.h"
#include "cajal/kernels/packed.h"

namespace cajal::engine {

/// The neurons of a feed-forward network as some file or tensor holds them, one row a neuron.
/// Views.
struct NeuronRows {
  RowMatrix key, gate;        // [neurons, width]; gate without rows: the network is not gated
  RowMatrix value;            // [neurons, width], or
  RowMatrix value_by_output;  // [width, neurons], as torch's Linear and GGUF files have it
  std::span<const float> key_bias, gate_bias;  // [neurons] or empty

  int64_t neurons() const { return key.rows; }
  int64_t width() const { return key.width; }
  bool gated() const { return gate.rows > 0; }
};

/// How a matrix of a bank lies, which decides what a selection can leave unread.
enum class Form {
  groups,   // groups of 32 neurons, packed: whole groups
  neurons,  // one row a neuron: single neurons
  inputs,   // one row an input: single inputs that are zero (keys and gates)
};

/// Formats of a run of neurons.
struct SectionPlan {
  int64_t neurons = 0;
  Format key = Format::f32, value = Format::f32;  // gates are as keys
};
CAJAL_OPTIONS(SectionPlan, neurons, key, value)

/// What becomes of the neurons.
struct BankPlan {
  std::vector<int32_t> order;         // of neurons, some may be left out; empty: as they are
  std::vector<SectionPlan> sections;  // in the new order; empty: one, in the formats given
  Form key = Form::groups;            // groups, neurons or inputs
  Form gate = Form::groups;           // groups or inputs
  Form value = Form::groups;          // groups or neurons
};

/// Rows of one matrix that it owns.
struct OwnedRows {
  RowMatrix view;
  WeightMemory memory;
};

/// A run of neurons whose matrices share their formats, in groups of 32 (the last one ragged).
struct Section {
  int64_t first_group = 0, groups = 0, neurons = 0;
  PackedMatrix key, gate, value;              // in Form::groups
  OwnedRows key_rows, gate_rows, value_rows;  // in the other forms
  std::vector<float> key_bias, gate_bias;     // [32 groups] or empty

  int64_t first_neuron() const { return kTileRows * first_group; }
};

/// The neurons of one feed-forward network, re-laid so that what a token does not need is not read.
/// Places count through the groups: place p is neuron p % 32 of group p / 32, and the last group of
/// each section may have places without a neuron, which never count. Copies share the weights.
class NeuronBank {
 public:
  /// Throws Error that starts with `where` when the matrices do not fit each other, the order names
  /// a neuron twice, the sections do not add up, or a format's block does not fit the width or
  /// form.
  NeuronBank(const NeuronRows& rows, Law law, const BankPlan& plan, std::string_view where,
             std::span<const float> output_bias = {});

  /// Several runs of neurons, each in its own formats, behind one another: a split network.
  static NeuronBank join(std::vector<NeuronBank> banks, std::string_view where);

  Law law() const { return law_; }
  bool gated() const { return gated_; }
  int64_t width() const { return width_; }
  int64_t neurons() const { return neurons_; }
  int64_t groups() const { return sections_.back().first_group + sections_.back().groups; }
  Form key_form() const { return key_form_; }
  Form gate_form() const { return gate_form_; }
  Form value_form() const { return value_form_; }
  const std::vector<Section>& sections() const { return sections_; }
  const std::vector<float>& output_bias() const { return output_bias_; }  // [width] or empty

  /// Where neuron i of the original order is, or -1 where the plan left it out.
  int32_t place_of(int64_t neuron) const { return place_of_[neuron]; }
  /// The original neuron at a place, or -1 where there is none.
  std::vector<int32_t> neuron_at() const;

  int64_t bytes() const;  // of weights, padding included

 private:
  NeuronBank() = default;

  Law law_ = Law::identity;
  bool gated_ = false;
  int64_t width_ = 0, neurons_ = 0;
  Form key_form_ = Form::groups, gate_form_ = Form::groups, value_form_ = Form::groups;
  std::vector<Section> sections_;
  std::vector<float> output_bias_;
  std::vector<int32_t> place_of_;  // [neurons of the original order]
};

}  // namespace cajal::engine

CAJAL_ENUM(cajal::engine::Form, {cajal::engine::Form::groups, "groups"},
           {cajal::engine::Form::neurons, "neurons"}, {cajal::engine::Form::inputs, "inputs"})
