#pragma once
#include <span>
#include <string>
#include <vector>

#include "cajal/surgery/brick_configuration.h"

// Facts put into a model by a change of rank one to what one FFN writes.
// Source: Meng et al. 2022, arXiv 2202.05262 (ROME); dossier bricks, O3.
namespace cajal::surgery {

/// C = E k kᵀ + ridge · mean diagonal · I of what the FFN of a layer reads as its values' input,
/// fp64 [neurons, neurons]. Throws Error for a text shorter than a window.
torch::Tensor second_moment(lm::Transformer& model, int64_t layer, std::span<const int32_t> ids,
                            int64_t tokens, int64_t context, double ridge = 0.01);

/// What is to be said, and after what.
struct Fact {
  std::vector<int32_t> prompt = {};
  int32_t answer = 0;
};

struct EditOptions {
  int64_t layer = 0;
  int64_t steps = 25;  // of Adam, that look for the value
  double rate = 0.3;
  double decay = 0.05;                              // of the value's length against the stream's
  std::vector<std::vector<int32_t>> prefixes = {};  // put before the prompt: the key is the mean
};

/// k*: the neurons' activations [neurons] at the last token of the prompt, mean over prefixes.
torch::Tensor fact_key(lm::Transformer& model, const Fact& fact, const EditOptions& options);

/// What the FFN must write more [width] at the last token of the prompt for the answer to be said.
torch::Tensor fact_change(lm::Transformer& model, const Fact& fact, const EditOptions& options);

/// The brick that makes the values' matrix W of a layer map k* to v* = W k* + change:
/// W' = W + change (C⁻¹ k*)ᵀ / (k*ᵀ C⁻¹ k*). Throws Error for a key of zeros.
Brick rank_one(const std::string& id, const lm::Transformer& model, int64_t layer,
               const torch::Tensor& key, const torch::Tensor& change, const torch::Tensor& moment);

/// All of that for one fact.
Brick edit(const std::string& id, lm::Transformer& model, const Fact& fact,
           const torch::Tensor& moment, const EditOptions& options);

/// Bricks of facts that were put in one after another, each into the model that those before left.
struct EditedFacts {
  BrickRegistry registry;
  Configuration configuration;  // all of them
  double largest_error = 0;     // of W' k* against v*, right after each edit
};
EditedFacts edit_in_turn(const lm::Transformer& model, std::span<const Fact> facts,
                         const torch::Tensor& moment, const EditOptions& options);

/// Share of the facts whose answer is the likeliest id after `before` and the prompt; where both do
/// not fit into the model's context, after the prompt alone.
double share_said(lm::Transformer model, std::span<const Fact> facts,
                  const std::vector<int32_t>& before = {});

/// The id that the model finds likeliest after the prompt.
int32_t likeliest(lm::Transformer& model, const std::vector<int32_t>& prompt);

/// Adds a low-rank brick to the model's own weights, in place.
void apply_low_rank(lm::Transformer& model, const Brick& brick);

}  // namespace cajal::surgery
