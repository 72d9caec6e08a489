#pragma once
#include <span>
#include <vector>

#include "cajal/atlas/census.h"
#include "cajal/models/lm/transformer.h"

namespace cajal::surgery {

struct PredictorOptions {
  int64_t rank = 64;
  int64_t epochs = 20;   // at most
  int64_t batch = 1024;  // tokens
  double rate = 1e-3;    // AdamW
  double stop_recall = 0.99;
  double threshold = 0.5;  // of the probability
  int64_t tokens = 16384;  // of text; the last tenth judges
  uint64_t seed = 0;
};

/// Guesses which neurons of one layer will fire from what its FFN reads: two linear maps without a
/// law between, sigma(B A x), trained with binary cross entropy in which firing neurons count more.
/// Source: Deja Vu (arXiv 2310.17157), as the dossier ffsplit gives it.
struct Predictor {
  torch::Tensor down, up, shift;   // [rank, width], [neurons, rank], [neurons]
  double recall = 0, density = 0;  // on held-back tokens: of firing neurons found; of all guessed
  torch::Tensor fires(const torch::Tensor& x, double threshold) const;  // bool [..., neurons]
  int64_t bytes(int64_t bytes_a_value) const;
};

/// The predictor with its shift moved so that it finds `recall` of the neurons that fire on other
/// tokens, x [tokens, width], fires [tokens, neurons]; recall and density are those found there.
Predictor at_recall(const Predictor& predictor, const torch::Tensor& x, const torch::Tensor& fires,
                    double recall);

/// Whether neurons of that law fall silent: it is exactly 0 below zero.
bool falls_silent(Activation law);

/// What each layer reads on a text, [tokens, width] fp32, and which neurons fire there, bool
/// [tokens, neurons] in their order now. A gated neuron fires when its gate does. Throws Error for
/// a law that is never exactly 0.
struct Firing {
  torch::Tensor x, fires;
};
std::vector<Firing> firing(lm::Transformer& model, std::span<const int32_t> ids, int64_t tokens);

/// One predictor a layer, trained on what each layer reads and does on the text. Throws Error as
/// `firing` does.
std::vector<Predictor> train_predictors(lm::Transformer& model, std::span<const int32_t> ids,
                                        const PredictorOptions& options = {});

/// The probability above which the predictors guess `share` of all (token, neuron) of the first
/// `tokens` of a text.
double threshold_for(lm::Transformer& model, const std::vector<Predictor>& predictors,
                     std::span<const int32_t> ids, double share, int64_t tokens = 1024);

/// What predictors did during passes with hooks.
struct PredictorCount {
  int64_t neurons = 0, guessed = 0, firing = 0, found = 0;
  double density() const { return static_cast<double>(guessed) / static_cast<double>(neurons); }
  double recall() const { return static_cast<double>(found) / static_cast<double>(firing); }
};

/// The `share` of all neurons of a model that fire most often, over all layers: [layers] bool
/// [neurons]. With a cap on memory and nothing else, PowerInfer's integer program comes to this.
std::vector<torch::Tensor> hot_neurons(const atlas::Census& census, double share);

/// Computes only the neurons that are guessed, or that are in `always` (hot neurons, [layers] bool
/// [neurons], or empty), in every pass that uses these hooks.
void attach(lm::Hooks& hooks, const lm::Transformer& model,
            const std::vector<Predictor>& predictors, const std::vector<torch::Tensor>& always,
            double threshold, PredictorCount& count);

}  // namespace cajal::surgery
