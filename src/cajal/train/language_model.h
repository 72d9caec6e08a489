#pragma once
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "cajal/core/options.h"
#include "cajal/models/lm/adapted.h"
#include "cajal/models/lm/training.h"
#include "cajal/train/options.h"
#include "cajal/train/tokens.h"

namespace cajal::train {

struct LanguageDataOptions {
  std::string
      train;  // text file, corpus ("classics/train"), or token file (.u16, .u32, .xz of one)
  std::string valid;  // text file or corpus
  std::string test;   // the same, or empty; read once, when training is over
  Json tokenizer;     // folder or file, or {"train": {"vocabulary": 8192, ...}} to make one
};
CAJAL_OPTIONS(LanguageDataOptions, train, valid, test, tokenizer)

/// A penalty on the size of FFN activations that makes neurons fall silent, raised in stages:
/// between two steps its weight follows a quarter of a sine. Source: ProSparse, arXiv 2402.13516.
struct SparsityOptions {
  std::vector<double> weights;  // of the mean |activation|, summed over layers; one a stage
  std::vector<int64_t> steps;   // the step at which each weight is reached, rising
};
CAJAL_OPTIONS(SparsityOptions, weights, steps)

/// Throws Error naming the field when the stages make no sense.
void check(const SparsityOptions& options);

/// Weight of the penalty at step `step` (0 is the first); 0 without stages.
double penalty_at(const SparsityOptions& options, int64_t step);

/// A language model from scratch, or from a checkpoint: what `cajal train CONFIG.json` reads.
struct LanguageModelOptions {
  Json model;  // as in config.json; vocab_size may be left out; not read with an initial checkpoint
  LanguageDataOptions data;
  int64_t batch = 64;       // windows a step, over all processes and micro-batches
  int64_t context = 0;      // tokens of a window; 0 = what the model holds
  double deviation = 0.02;  // of the initial weights
  std::string law;          // replaces the law of every FFN ("relu": relufication); empty = keep it
  SparsityOptions sparsity;
  std::optional<lm::AdapterOptions> adapters;  // tunes a checkpoint with few parameters (SPT, LoRA)
  uint64_t seed = 1;
  std::string dtype = "bf16";  // of the saved weights: bf16, f16 or f32
  Options trainer;
};
CAJAL_OPTIONS(LanguageModelOptions, model, data, batch, context, deviation, law, sparsity, adapters,
              seed, dtype, trainer)

struct LanguageModelRun {
  std::filesystem::path output;  // becomes a Hugging Face folder, with log.jsonl and checkpoints/
  bool resume = false;
  std::string device = "auto";
  std::filesystem::path init = {};  // a checkpoint to go on from, instead of fresh weights
  std::string command = {};         // for the model card
};

/// Trains and writes the model, its tokenizer and a model card (README.md); with adapters that do
/// not fold into the weights, the model as it was and adapters.safetensors. Returns what the card
/// says: {"steps", "tokens", "valid": {...}, "test": {...}, ...}; "stopped" after a signal.
/// Throws Error naming the field of bad options and when `output` holds something else.
Json train_language_model(const LanguageModelOptions& options, const LanguageModelRun& run);

struct TextLoss {
  int64_t tokens = 0, bytes = 0;  // predicted tokens; bytes of the text
  double nats = 0;
  Json json() const;  // {"loss", "perplexity", "bits_per_byte"}
};

/// ids and targets i64 [batch, tokens] -> the mean loss [] over targets that are not -100.
using LossFunction = std::function<torch::Tensor(const torch::Tensor&, const torch::Tensor&)>;

/// The loss over all of `tokens` in windows of `context` that do not overlap; every token but the
/// first is predicted once.
TextLoss evaluate(const LossFunction& loss, const TokenFile& tokens, int64_t context, int64_t batch,
                  torch::Device device);

}  // namespace cajal::train
