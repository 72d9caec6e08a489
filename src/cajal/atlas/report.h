#pragma once
#include <span>

#include "cajal/atlas/confidence.h"
#include "cajal/atlas/correlate.h"
#include "cajal/atlas/findings.h"
#include "cajal/atlas/text.h"

namespace cajal::atlas {

struct DescribeOptions {
  TriggerOptions triggers = {};
  PositionalOptions positions = {};
  int64_t words = 10;             // promoted and lowered tokens kept of each neuron
  int64_t ablation_tokens = 512;  // on which neurons of the last layer are ablated; 0 = none are
  uint64_t seed = 0;              // of the shuffled triggers
};

/// What the census and the weights together say of every neuron: detectors and what they do to
/// their triggers, positions, what is written, entropy and token-frequency neurons. `reading` is
/// the text of the census; without it n-grams have no words, purity of n-gram detectors is not
/// known and nothing is ablated.
/// Throws Error when the model is not that of the census or the census has no tables.
Findings describe(const Census& census, lm::Transformer& model, const Reading* reading,
                  const DescribeOptions& options = {}, Progress* progress = nullptr);

/// What a neuron is called: "dead", "token detector", "3-gram detector", "suppresses its triggers",
/// "positional (range)", "predicts", "suppresses" (kurtosis of cos(W_U, w) above 10), "entropy",
/// "token frequency" (more than half of an effect above the median goes through the norm, or the
/// unigram direction), "universal" (excess correlation above 0.5), "heavy hitter".
std::vector<std::string> labels(const Census& census, const Findings& findings, int64_t layer,
                                int64_t neuron);

/// Mean over the other models of best correlation less the best with a turned basis; -1 = none.
double excess(const Finding& found);

/// Writes what `correlate` found in the model called `model` to the neurons it was asked about.
void add_matches(Findings& findings, const std::string& model, const lm::Transformer& other,
                 const Matches& matches);

}  // namespace cajal::atlas
