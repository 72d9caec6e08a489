#pragma once
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "cajal/engine/selector.h"
#include "cajal/surgery/plan.h"
#include "cajal/surgery/predictor.h"

/// What `cajal bench skip` learns from calibration text before it runs anything.
namespace cajal::bench_skip {

struct LearnOptions {
  int64_t tokens = 16384, rank = 64, epochs = 10;
  double share = 0.5;      // of a SwiGLU model's numbers that thresholds leave out
  std::string predictors;  // a file that keeps them, or empty
};

/// Sizes below which numbers of one layer are taken for zero.
struct LayerThresholds {
  float gate = 0;               // CATS
  float input = 0, active = 0;  // TEAL
};

struct Learned {
  // Of models whose neurons fall silent; seen on the last quarter of the text, from which no
  // predictor learns.
  std::vector<surgery::Firing> firing;
  std::vector<surgery::Predictor> predictors;      // without gates only
  std::vector<std::vector<int32_t>> coactivation;  // an order for each layer
  // Of the others with gates.
  std::vector<LayerThresholds> thresholds;
  std::vector<std::vector<int32_t>> heavy;  // an order for each layer, what does most first

  bool silent() const { return !firing.empty(); }
};
Learned learn(lm::Transformer& model, std::span<const int32_t> ids, const LearnOptions& options);

/// The planner's formats for a budget half way between all in q4_0 and all in q8_0.
surgery::Plan planned(lm::Transformer& model, std::span<const int32_t> ids, int64_t tokens);

/// The predictor of layer `l` set to a recall on the text that trained nothing, and whether reading
/// it and the keys that it wants is well below reading all keys.
struct SetPredictor {
  surgery::Predictor predictor;
  bool pays = false;
};
SetPredictor set_predictor(const Learned& learned, size_t l, double recall);

/// The selector of a predictor, its matrices in 8 bits.
engine::Selector selector_of(const surgery::Predictor& predictor, const engine::NeuronBank& bank);

/// Writes the model with its neurons by a plan and everything else in a format.
void write_planned(const std::filesystem::path& from, const surgery::Plan& plan, Format rest,
                   const std::filesystem::path& to);

}  // namespace cajal::bench_skip
