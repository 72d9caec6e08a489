#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "cajal/atlas/confidence.h"

// How neurons of the last layer hold a language model's confidence down, seen where it repeats
// itself, and one dial on them. Source: dossier confidence-neurons, Build 5 and 6.
namespace cajal::atlas {

/// Every neuron of the last layer over `tokens` of a text: what its weights say and what ablating
/// it does.
struct LastLayer {
  torch::Tensor length;         // fp64 [neurons] of value rows
  torch::Tensor null_share;     // fp64 [neurons]
  torch::Tensor unigram;        // fp64 [neurons] |cos| of what it writes with the unigram direction
  std::vector<Effect> effects;  // [neurons]
};
LastLayer last_layer(lm::Transformer& model, std::span<const int32_t> ids, int64_t context,
                     int64_t tokens);

/// `count` runs of `half` tokens of the text, each followed by itself without its last token, after
/// the begin token where the family has one: i64 [count, 2 half - 1 or one more]. Throws Error when
/// the text is too short.
torch::Tensor repeated_text(const lm::Config& config, std::span<const int32_t> ids, int64_t half,
                            int64_t count);

/// Entropy of the predictions in nats, fp32 [rows, positions] of `ids`. From position `from` on the
/// neurons `held` of the last layer stay at or below their mean over the positions before it.
torch::Tensor entropies(lm::Transformer& model, const torch::Tensor& ids,
                        const std::vector<int64_t>& held = {}, int64_t from = 0);

/// fp64 [layers, heads]: how much the mean activation of some neurons of the last layer, from
/// position `from` on, changes when one head looks at nothing but the first token.
torch::Tensor heads_behind(lm::Transformer& model, const torch::Tensor& ids,
                           const std::vector<int64_t>& neurons, int64_t from);

/// A model whose neurons of the last layer are multiplied by a gain, and whose logits are divided
/// by a temperature, over the same tokens for every setting.
class ConfidenceDial {
 public:
  ConfidenceDial(lm::Transformer& model, std::span<const int32_t> ids, int64_t context,
                 int64_t tokens, const std::vector<int64_t>& neurons);

  struct Score {
    double nats = 0;   // a token
    double error = 0;  // expected calibration error
  };
  Score score(double gain, double temperature) const;

 private:
  Readout readout_;
  LastStream stream_;
  torch::Tensor written_;  // [tokens, width] by the neurons
};

}  // namespace cajal::atlas
