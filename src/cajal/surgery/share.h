#pragma once
#include <span>
#include <string>
#include <vector>

#include "cajal/models/lm/transformer.h"

namespace cajal::surgery {

/// Which FFN each layer uses: its own number, that of an earlier layer that it shares with, or -1
/// for none.
struct SharePlan {
  std::vector<int64_t> uses;  // [layers]

  static SharePlan own(int64_t layers);
  static SharePlan none_above(int64_t layers, int64_t first);
  /// "own,own,shared:a,shared:a,none,..." with one entry a layer; throws Error naming the entry.
  static SharePlan parse(const std::string& text, int64_t layers);
  std::string text() const;
  /// Layers of one group, the owner first; empty for layers that are none's.
  std::vector<std::vector<int64_t>> groups() const;
};

/// Linear CKA of what the FFNs of each pair of layers write on the text: [layers, layers].
/// Throws Error for a text that is shorter than a window and activations that are not finite.
std::vector<std::vector<double>> ffn_likeness(lm::Transformer& model, std::span<const int32_t> ids,
                                              int64_t tokens);

/// The plan with `networks` FFNs in which neighbouring layers share: again and again the two runs
/// of layers whose mean likeness is highest become one. Throws Error unless 1 <= networks <=
/// layers.
SharePlan propose(const std::vector<std::vector<double>>& likeness, int64_t networks);

/// The model under a plan: layers of a group get the mean of their FFNs, neuron by neuron, after
/// (with `aligned`) each FFN's neurons were put in the order that fits the owner's best by the
/// Hungarian method on [key, gate, bias, value]; layers without an FFN add nothing.
/// Throws Error when the plan is of another number of layers.
lm::Transformer shared(lm::Transformer& model, const SharePlan& plan, bool aligned = true);

struct TuneOptions {
  int64_t steps = 100, batch = 8, context = 128;
  double learning_rate = 3e-4;
  uint64_t seed = 0;
};
/// Goes on training all weights with the FFNs tied as the plan says. Throws Error for a text
/// shorter than a window.
void tune(lm::Transformer& model, const SharePlan& plan, std::span<const int32_t> ids,
          const TuneOptions& options);

/// Parameters of the FFNs that are left, shared ones once.
int64_t ffn_parameters(const lm::Transformer& model, const SharePlan& plan);

}  // namespace cajal::surgery
