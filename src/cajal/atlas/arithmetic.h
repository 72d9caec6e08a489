#pragma once
#include <functional>

#include "cajal/atlas/heuristics.h"
#include "cajal/models/lm/transformer.h"
#include "cajal/train/options.h"

namespace cajal::atlas {

/// "x op y =" as four tokens: numbers are their own ids, then + - * / =. The answer is the token
/// after the last. Source: dossier arithmetic-heuristics, Data.
struct ArithmeticTask {
  PairGrid grid;
  torch::Tensor ids, answers;     // i64 [pairs, 4] and [pairs], in the grid's order
  torch::Tensor train, held_out;  // i64 indices of pairs
  int64_t vocabulary = 0;
};

struct ArithmeticOptions {
  Operator op = Operator::add;
  int64_t operands = 100;    // 0 .. operands - 1
  int64_t max_result = 198;  // larger results are left out
  double held_out = 0.2;     // share of the pairs
  int64_t layers = 3, width = 128, heads = 4, neurons = 512;
  Activation law = Activation::relu;
  bool gated = false;  // Llama's form instead of OPT's
  int64_t batch = 512;
  double deviation = 0.06;  // of the initial weights
  train::Options trainer = {};
};
CAJAL_OPTIONS(ArithmeticOptions, op, operands, max_result, held_out, layers, width, heads, neurons,
              law, gated, batch, deviation, trainer)

/// Options that learn sums of numbers below 100 to above 95 % held out within some minutes on two
/// cores: AdamW, weight decay 1, a constant rate that falls at the end.
ArithmeticOptions arithmetic_options(int64_t steps = 1200);

ArithmeticTask arithmetic_task(const ArithmeticOptions& options, uint64_t seed);

/// A fresh model trained on the task's train pairs, loss on the answer alone. `snapshot` is called
/// with the step at every `evaluate_every` steps and at the end, for studies of how rules emerge.
lm::Transformer train_arithmetic(
    const ArithmeticOptions& options, const ArithmeticTask& task, uint64_t seed,
    const std::function<void(int64_t, lm::Transformer&)>& snapshot = {});

/// Prompts whose answer the model gets right, as pair indices.
torch::Tensor right_pairs(lm::Transformer& model, const ArithmeticTask& task,
                          const torch::Tensor& pairs);

/// For each pair another one with another answer, drawn with `seed`: counterfactual prompts.
torch::Tensor counterfactuals(const ArithmeticTask& task, const torch::Tensor& pairs,
                              uint64_t seed);

/// Activations of the neurons of one layer at the last position for every pair of the grid, fp32
/// [neurons, pairs]; `effects`, of the same shape, are those times what each neuron's value row
/// does to the answer's logit (final norm folded in).
struct ActivationMaps {
  torch::Tensor activations, effects;
};
ActivationMaps activation_maps(lm::Transformer& model, const ArithmeticTask& task, int64_t layer,
                               const torch::Tensor& neurons);

}  // namespace cajal::atlas
