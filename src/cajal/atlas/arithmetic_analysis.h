#pragma once
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cajal/atlas/arithmetic.h"
#include "cajal/atlas/circuit.h"

namespace cajal::atlas {

struct AnalysisOptions {
  ArithmeticOptions task = {};
  int64_t prompts = 50;     // with different answers, of which patching is asked
  double kept = 0.15;       // share of a layer's neurons that rules are looked for in
  int64_t class_size = 10;  // neurons of one rule that are knocked out together
  int64_t class_prompts = 100;
  int64_t sample = 200;  // prompts whose own neurons are knocked out
};

/// One arithmetic model, trained for the purpose, and the questions of the paper asked of it: where
/// an answer is made, by which rules of thumb, and what is lost without them. The last two layers
/// are where answers are made; the methods build on each other and are called in this order.
/// Source: dossier arithmetic-heuristics, Build 2 to 8.
class ArithmeticAnalysis {
 public:
  /// Trains the model (minutes) and draws prompts, all with `seed`.
  ArithmeticAnalysis(const AnalysisOptions& options, uint64_t seed);

  double held_out_accuracy() const { return accuracy_; }

  /// Which parts carry the answer, and whether attribution finds the neurons that exact patching
  /// finds; ranks the neurons of every layer.
  struct Patching {
    torch::Tensor effects;        // [layers, heads + 1, 4], see `patching_effects`
    double error = 0;             // of batched patching against a pass a neuron, relative
    double rank_correlation = 0;  // of attribution with exact patching, stronger half of neurons
    int64_t heads = 0;            // that make 90 % of the answer with all neurons
    double heads_faithfulness = 0;
    struct Kept {
      double share, top, random;  // faithfulness with so many neurons of the last two layers
    };
    std::vector<Kept> kept;
  };
  Patching patching(const std::vector<double>& shares);

  /// Rules that the top neurons follow, and what permuted maps would match.
  struct Rules {
    struct Family {
      int64_t neurons = 0, permuted = 0;
      double score = 0;  // mean of the best of each neuron
    };
    std::map<std::string, Family> families;
    int64_t neurons = 0, matched = 0, permuted = 0;  // of `neurons`: follow any rule
  };
  Rules rules();

  /// What accuracy is lost without the neurons of a rule, or without those of a prompt's rules.
  struct KnockOut {
    int64_t classes = 0;
    double related = 0, unrelated = 0;  // mean loss on prompts that the rule holds for, and others
    struct Row {
      int64_t most;             // neurons a layer
      double targeted, random;  // accuracy left
    };
    std::vector<Row> rows;
    double best_ratio() const;  // of the losses
  };
  KnockOut knock_out();

  /// How much of the final neuron-rule pairs is there at earlier steps; leaves the model trained.
  struct Stage {
    int64_t step = 0;
    double accuracy = 0, shared = 0, faithfulness = 0;
  };
  std::vector<Stage> emergence();

  /// Held-out accuracy of a linear readout of the answer after each layer, at the last token.
  std::vector<double> probes(int64_t examples, int iterations);

 private:
  struct Neuron {
    int64_t layer, neuron;
    std::vector<HeuristicMatch> rules = {};
  };
  Metric effect(int64_t copies);
  double accuracy_of(const torch::Tensor& pairs, lm::Hooks* hooks);
  double accuracy_without(const torch::Tensor& pairs, int64_t most, bool targeted);
  double kept_faithfulness(double share, bool top);
  void compare_patching(const Recording& scores, Patching& out);
  int64_t first_layer() const { return options_.task.layers - 2; }

  AnalysisOptions options_;
  ArithmeticTask task_;
  std::vector<std::pair<int64_t, std::vector<torch::Tensor>>> snapshots_;
  lm::Transformer model_{nullptr};
  std::optional<HeuristicScorer> scorer_;
  Recording means_;
  double accuracy_ = 0;
  torch::Tensor right_, ids_, answers_, source_, source_answers_;
  std::vector<torch::Tensor> ranking_;  // neurons by attribution score, a layer
  std::vector<Neuron> neurons_;
};

}  // namespace cajal::atlas
