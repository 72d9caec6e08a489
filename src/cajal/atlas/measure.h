#pragma once
#include <filesystem>
#include <functional>
#include <optional>
#include <span>

#include "cajal/atlas/census.h"
#include "cajal/core/progress.h"
#include "cajal/models/lm/transformer.h"

namespace cajal::atlas {

struct MeasureOptions {
  int64_t context = 0;   // tokens a window; 0 = 512, or the model's context where that is shorter
  int64_t batch = 8;     // windows evaluated in one go
  int64_t samples = 64;  // tokens whose activations are kept
  uint64_t seed = 0;     // of their choice
  int64_t shard = 1, shards = 1;  // count the units of the text that are this part of so many
  bool tables = false;            // shapes, and counts by position and by token
  int orders = 1;                 // n-grams of 2 to so many tokens (at most 5)
  int64_t gram_limit = 512;       // of one neuron and order; one that has more is given up
  double threshold = 0;           // fired: |a| above this; 0 = input to the law (or gate) above 0
  bool by_layer = false;          // one layer in memory at a time; the stream lies in a file
  std::filesystem::path scratch = {};  // folder of that file; empty: the system's
  lm::Hooks hooks = {};                // that take part in the passes
  std::function<void(std::span<const int32_t> ids)> after_unit = {};  // whose tokens these were
};

/// How a census that takes long outlives a kill.
struct Checkpoint {
  std::optional<Census> begun = {};              // what an earlier run had counted
  std::function<void(const Census&)> save = {};  // called every `seconds`, and never at the end
  double seconds = 60;
};

/// One streaming pass of `model` over a text: what each FFN neuron did. Memory does not depend on
/// the number of tokens. The text is cut into windows that do not overlap; where the family has a
/// begin id it stands before each window and is not counted. Neurons of a split model are counted
/// under the numbers that they had in the original.
/// Throws Error for fewer than 2 tokens, vision models, ids out of range, options out of range, and
/// activations that are not finite (naming the layer). A census that was begun with the same
/// model, text and options goes on where it was saved and ends in the same bits (not `by_layer`,
/// which keeps whole layers and begins anew).
Census measure(lm::Transformer& model, std::span<const int32_t> ids,
               const MeasureOptions& options = {}, Progress* progress = nullptr,
               const Checkpoint& checkpoint = {});

/// Tokens of a text in a window of `context`: one fewer where the family has a begin token.
int64_t window_tokens(const lm::Config& config, int64_t context);

/// What the model reads of whole windows of `length` tokens: i64 [windows, length], with the begin
/// id of the family before each where it has one.
torch::Tensor windows(const lm::Config& config, std::span<const int32_t> ids, int64_t length);

/// A census of no tokens: the neurons and the lengths of their rows.
Census blank(const lm::Transformer& model);

/// Tells models apart: a hash of the configuration and of the head of every FFN matrix.
uint64_t fingerprint(const lm::Transformer& model);

/// Euclidean length of the rows that belong to each neuron, [neurons]: of keys (for gated neurons
/// multiplied with that of gates) or of values, under their original numbers.
std::vector<float> key_norms(const lm::FeedForward& ffn);
std::vector<float> value_norms(const lm::FeedForward& ffn);

}  // namespace cajal::atlas
