#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "cajal/atlas/census.h"
#include "cajal/core/options.h"

// What the counts of a census mean: detectors of tokens and n-grams, and neurons of positions.
// Source: dossier dead-ngram-positional, Build 5 and 7.
namespace cajal::atlas {

struct TriggerOptions {
  double coverage = 0.95;      // share of the firings that the triggers must cover
  int64_t most = 50;           // triggers of a detector
  double selectivity = 0.95;   // P(fires | trigger) of a pure one
  int64_t least_firings = 30;  // fewer decide nothing: the neuron is rare
};

/// The smallest set of tokens, or of n-grams, at whose end a neuron fires.
struct Triggers {
  int order = 0;                     // 1: tokens, 2 ... n-grams; 0: no small set covers its firings
  bool rare = false;                 // fired too seldom to decide
  bool pure = false;                 // fires at (nearly) every occurrence of its triggers
  double covered = 0;                // share of its firings
  double selectivity = -1;           // share of the triggers' occurrences; -1 = not known
  std::vector<int64_t> keys = {};    // token ids; of n-grams, where in the text the first one ends
  std::vector<int64_t> counts = {};  // firings on each
};

/// How often n-grams occur in the units that a census covers, by hash; only those asked for.
class GramTotals {
 public:
  /// Of every n-gram that some neuron of the census fired on and did not give up. `ids` is the text
  /// of the census.
  GramTotals(const Census& census, std::span<const int32_t> ids);
  int64_t of(uint64_t hash) const;

 private:
  std::vector<std::pair<uint64_t, int64_t>> totals_;  // by hash
};

/// The triggers of one neuron, of the lowest order at which they are pure. Few n-grams end in few
/// tokens, so where no order is pure the tokens are given, as of an impure detector. N-grams are
/// looked at with `totals` only. Throws Error for a census without token table.
Triggers find_triggers(const Census& census, int64_t layer, int64_t neuron,
                       const TriggerOptions& options = {}, const GramTotals* totals = nullptr);

enum class PositionKind { none, weak, range, oscillatory };

struct PositionalOptions {
  double information = 0.05;  // nats from which a neuron is positional
  bool skip_first = false;    // leave out position 0, which begins a text
  double on = 0.9, off = 0.1, decided = 0.95;
  double line = 0.5;  // share of the AC power in one DFT line that makes an oscillator
};

/// How far the position decides whether a neuron fires.
struct Positional {
  double information = 0;  // nats, less the Miller-Madow bias
  PositionKind kind = PositionKind::none;
  int switches = 0;
  std::vector<double> rate = {};  // by position
};

/// Throws Error for a census without position table.
Positional find_positional(const Census& census, int64_t layer, int64_t neuron,
                           const PositionalOptions& options = {});

/// The mean over positions of rate x log(rate / mean) + (1 - rate) log((1 - rate) / (1 - mean)).
double position_information(std::span<const double> rate);

/// A neuron of another model that follows one of this.
struct Universal {
  std::string model;
  int64_t layer = -1, neuron = -1;
  double rho = 0, turned = 0;  // best correlation; the best with the other model's basis turned
};

/// What the atlas says of one neuron beyond its counts.
struct Finding {
  Triggers triggers;
  std::vector<std::string> trigger_texts = {};
  double suppressed = -1;  // share of its trigger tokens whose logit it lowers; -1 = no triggers
  double trigger_rank =
      -1;  // mean rank of triggers among what it raises: 0 = most raised, 1 = least
  PositionKind position = PositionKind::none;
  double information = 0;
  std::vector<std::string> promoted = {}, lowered = {};              // tokens, strongest first
  double cosine_variance = 0, cosine_kurtosis = 0, cosine_skew = 0;  // of cos(W_U, w) over tokens
  double null_share = 0;      // of the length of w in the null space of the unembedding
  double unigram_cosine = 0;  // of what it adds to the logits with the log unigram frequencies
  // Neurons of the last layer: effect of mean ablation on the loss, and the shares of it that go
  // through the final norm's scale and through the unigram direction; -1 = not measured.
  double effect = -1, norm_share = -1, unigram_share = -1;
  std::vector<Universal> universal = {};
};

/// Per layer: how often trigger tokens are lowered, against triggers shuffled among detectors.
struct LayerFinding {
  int64_t detectors = 0, pure = 0, rare = 0, lowering = 0, grams = 0;
  double suppressed = 0, shuffled = 0;         // mean shares over detectors
  int64_t tokens_covered = 0, tokens_new = 0;  // by detectors here; by none in earlier layers
  int64_t range = 0, oscillatory = 0, weak = 0;
};

struct Findings {
  std::vector<LayerFinding> layers;
  std::vector<std::vector<Finding>> neurons;  // [layers][neurons]
};

}  // namespace cajal::atlas

CAJAL_ENUM(cajal::atlas::PositionKind, {cajal::atlas::PositionKind::none, "none"},
           {cajal::atlas::PositionKind::weak, "weak"}, {cajal::atlas::PositionKind::range, "range"},
           {cajal::atlas::PositionKind::oscillatory, "oscillatory"})
