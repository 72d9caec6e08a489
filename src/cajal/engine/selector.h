#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cajal/engine/neuron_bank.h"

namespace cajal::engine {

/// What is evaluated for each token of a batch: everything, or lists of groups or places that
/// ascend. Token b has chosen[begin[b] .. begin[b + 1]).
struct Selection {
  enum class Unit { all, groups, places };
  Unit unit = Unit::all;
  std::vector<int64_t> begin;  // [tokens + 1]
  std::vector<int32_t> chosen;

  std::span<const int32_t> of(int64_t token) const {
    return {chosen.data() + begin[token], chosen.data() + begin[token + 1]};
  }
  void start(Unit of) { unit = of, begin.assign(1, 0), chosen.clear(); }
  void end_token() { begin.push_back(static_cast<int64_t>(chosen.size())); }
};

/// Decides which neurons are evaluated. All its parts are optional: without any, every neuron is.
struct Selector {
  std::string name = "all";

  /// Chooses before any neuron has been looked at; x [batch, width].
  std::function<void(const float* x, int64_t batch, ThreadPool& threads, Selection& out)> choose;

  /// Neurons whose law(gate), or law(key) without gates, is at most this in size are left out:
  /// their keys (in Form::neurons) and values are not read. 0 leaves out what is silent anyway.
  std::optional<float> silent;

  /// Inputs, and activations (the gated products), of at most this size are taken for zero, and the
  /// rows that they meet are not read (Form::inputs; values).
  std::optional<float> silent_input, silent_activation;

  int64_t bytes = 0;  // that choosing reads for a token
};

/// Every neuron.
Selector select_all();

/// Always the same groups, in any order: heavy hitters, or what a prompt used (see GroupEnergy).
Selector select_groups(std::vector<int32_t> groups);

/// All that fires, exactly: keys first, values only where the law is not zero.
Selector skip_silent();

/// Neurons whose law(gate) is larger than a threshold in size; the others' keys and values are not
/// read. Source: CATS, arXiv 2404.08763.
Selector threshold_gate(float threshold);

/// Inputs and activations larger than thresholds in size; rows that the others meet are not read.
/// Source: TEAL, arXiv 2408.14690.
Selector threshold_inputs(float input_threshold, float activation_threshold);

/// Guesses which neurons will fire by two small matrices, logits = up law(down x) + shift: without
/// a law the low-rank form of Deja Vu (arXiv 2310.17157), with relu that of PowerInfer
/// (2312.12456).
struct Predictor {
  RowMatrix down;            // [rank, width]
  RowMatrix up;              // [neurons, rank], in the original order
  std::vector<float> shift;  // [neurons] or empty
  Law law = Law::identity;
  float least = 0;  // logits from here on are guessed to fire
};
/// `unit` is groups (a group is read where one of its neurons is guessed) or places. The matrices
/// are copied. Throws Error when they do not fit the bank.
Selector predict(const Predictor& predictor, const NeuronBank& bank, Selection::Unit unit);

/// Writes the experts of each token, ascending: x [batch, width] -> out [batch, count].
using ExpertChoice =
    std::function<void(const float* x, int64_t batch, ThreadPool& threads, int32_t* out)>;

/// The `count` of `experts` with the largest scores; ties go to the lower number, NaN counts as the
/// least. `score` writes [batch, experts].
ExpertChoice choose_best(
    std::function<void(const float* x, int64_t batch, ThreadPool& threads, float* scores)> score,
    int64_t experts, int64_t count);

/// By scores first x + bias, or, where `second` [experts, experts] has rows,
/// second tanh(first x / ||x||) + bias. The matrices are copied. Throws Error when sizes do not
/// fit.
struct Router {
  RowMatrix first = {};          // [experts, width]
  RowMatrix second = {};         // [experts, experts] or without rows
  std::vector<float> bias = {};  // [experts] or empty
  int64_t bytes() const;
};
ExpertChoice choose_experts(const Router& router, int64_t count);

/// The groups of the experts that `choice` gives, `count` for each token; expert e has groups
/// [first_group[e], first_group[e + 1]). `bytes`: what a choice reads. Throws Error when sizes do
/// not fit.
Selector route(ExpertChoice choice, int64_t bytes, std::vector<int32_t> first_group, int64_t count,
               const NeuronBank& bank);
Selector route(const Router& router, std::vector<int32_t> first_group, int64_t count,
               const NeuronBank& bank);

/// The groups of the leaf that a descent reaches: leaf(x, batch, out [batch]); leaf l has groups
/// [first_group[l], first_group[l + 1]). `bytes`: what a descent reads.
Selector descend(std::function<void(const float* x, int64_t batch, int32_t* out)> leaf,
                 std::vector<int32_t> first_group, int64_t bytes, const NeuronBank& bank);

/// What each group contributed while it was watched: the sum of squares of its activations.
struct GroupEnergy {
  std::vector<double> of_group;

  /// The `share` of the groups with the most, ascending: the selection of a prompt, to be reused
  /// while its answer is decoded.
  std::vector<int32_t> top(double share) const;
};

}  // namespace cajal::engine
