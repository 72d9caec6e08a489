#pragma once
#include <array>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "cajal/atlas/collectors.h"
#include "cajal/atlas/exact_sum.h"
#include "cajal/core/threads.h"

namespace cajal::atlas {

/// A token of the text at which a neuron was strong.
struct Peak {
  float activation = 0;
  int64_t token = -1;  // index in the text; -1 = none yet
  bool operator==(const Peak&) const = default;
};

/// The words around a token, for people.
struct Context {
  std::string before, token, after;
  bool operator==(const Context&) const = default;
};

/// What the neurons of one FFN did over a text. a_i is the activation of neuron i after its law
/// (gated: the product), w_i its value row; a_i w_i is what it writes, |a_i| ||w_i|| its output
/// norm, and the square of that its output energy.
/// Source: dossiers _sparse-ffn (NeuronStats) and ffsplit (Build 1 and 2).
struct LayerCensus {
  static constexpr int peaks_kept = 10;
  static constexpr std::array<int, 6> percents = {1, 2, 5, 10, 25, 50};

  int64_t neurons = 0;
  bool gated = false;
  std::vector<float> key_norm, value_norm;  // [neurons], Euclidean length of the neuron's rows
  int64_t tokens = 0;                       // seen
  int64_t live_tokens = 0;                  // of them, those at which any neuron wrote anything
  std::vector<int64_t> positive, zero;      // [neurons] tokens with a > 0, with a = 0
  std::vector<int64_t> top;  // [neurons] tokens at which it was among the ceil(0.1 neurons) largest
                             // output norms (and wrote something)
  std::vector<ExactSum> sum, absolute, square;  // [neurons] of a, |a|, a^2
  std::vector<Peak> peaks;                      // [neurons, peaks_kept], largest |a| first
  // Sum over live tokens of the share of output energy held by the largest `percents` % of the
  // contributions at that token.
  std::array<ExactSum, percents.size()> token_share;
  std::vector<float> samples;  // [sampled tokens of the census, neurons]
  // [neurons] tokens at which it fired: its input to the law was above 0 (gated: the gate's), or,
  // with a threshold, |a| was above that.
  std::vector<int64_t> fired;
  double threshold = 0;
  LayerTables tables;

  LayerCensus() = default;
  LayerCensus(std::vector<float> key_norms, std::vector<float> value_norms, bool is_gated,
              const Collectors& collectors = {}, double firing_threshold = 0);

  /// Adds what the neurons answered to some tokens of the text. The result does not depend on the
  /// thread count. Throws Error when an activation is not finite, or when a collector needs what
  /// the slab lacks. Tables are unpacked by it: `pack` before reading or merging them.
  void add(Slab slab, ThreadPool& threads);
  void add(std::span<const float> activations, int64_t first_token, ThreadPool& threads);
  /// Adds a census of other tokens over the same neurons (all but the samples).
  void merge(const LayerCensus& other);

  double firing_share(int64_t neuron) const;  // share of tokens with a > 0
  double rate(int64_t neuron) const;          // share of tokens at which it fired
  double mean(int64_t neuron) const;          // E a
  double mean_norm(int64_t neuron) const;     // E |a| ||w||
  double energy(int64_t neuron) const;        // E a^2 ||w||^2
  double hits(int64_t neuron) const;          // share of tokens in the top tenth
  /// Never fired: never a > 0, or for a gated neuron, whose sign means nothing, never a != 0.
  bool dead(int64_t neuron) const;

  int64_t dead_count() const;
  double zero_share() const;      // of all activations, exactly 0
  double positive_share() const;  // of all activations, > 0
  /// Mean share of a token's output energy in its own largest `percents[p]` % of contributions.
  double token_curve(size_t p) const;
  /// Share of all output energy in the best fixed `share` of the neurons.
  double fixed_curve(double share) const;
  bool operator==(const LayerCensus&) const = default;
};

/// Puts `peak` in its place among the LayerCensus::peaks_kept of one neuron, the last of which
/// falls out: larger |a| first, of equal ones the earlier token.
void put_in(Peak* best, Peak peak);

/// Neurons of a percentage, at least one: ceil(percent / 100 neurons).
int64_t neurons_of_percent(int64_t neurons, int percent);

/// A census of every FFN neuron of a model over a text, or over some units of it. The text is cut
/// into windows and the windows into units that are evaluated in one go; units never share
/// anything, so that censuses of disjoint units of one text merge exactly.
struct Census {
  static constexpr int schema = 2;

  std::string model, text;         // names for people
  uint64_t model_hash = 0;         // of config and weights (see `fingerprint`)
  uint64_t text_hash = 0;          // of the token ids
  int64_t text_tokens = 0;         // of the whole text
  int64_t context = 0, batch = 0;  // tokens a window, windows a unit
  int64_t units = 0;               // of the whole text
  uint64_t seed = 0;               // of the sample
  // [begin, end) of the units counted, in order
  std::vector<std::pair<int64_t, int64_t>> covered = {};
  std::vector<int64_t> sample_tokens = {};  // of the covered units, ascending
  // Around every peak's token, where a tokenizer was there.
  std::map<int64_t, Context> contexts = {};
  // Of the covered units: how often each token id and each position in a window occurred; empty
  // where the layers have no such table.
  std::vector<int64_t> token_totals = {}, position_totals = {};
  std::vector<LayerCensus> layers = {};

  int64_t tokens() const { return layers.empty() ? 0 : layers.front().tokens; }
  bool complete() const { return covered == decltype(covered){{0, units}}; }
  bool operator==(const Census&) const = default;
};

/// The census over the units of both. Throws Error when they are not of one model, text and
/// cutting, or when units overlap; `name_a` and `name_b` name them there.
Census merge(Census a, const Census& b, const std::string& name_a, const std::string& name_b);

/// The `count` tokens of [0, tokens) with the smallest hash, ascending: a sample that depends on
/// nothing but the seed.
std::vector<int64_t> sample_tokens(int64_t tokens, int64_t count, uint64_t seed);

/// A 64-bit hash (SplitMix64 chained over 8-byte words), for telling contents apart.
uint64_t hash_bytes(std::span<const std::byte> bytes, uint64_t seed = 0);

}  // namespace cajal::atlas
