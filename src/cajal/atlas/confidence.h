#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "cajal/core/torch.h"
#include "cajal/models/lm/transformer.h"

// What the neurons of the last layer do to how sure a language model is: through its logits, and
// through the scale of the final norm. Source: dossier confidence-neurons.
namespace cajal::atlas {

/// The way from the last residual stream to the logits, logits = normed(x) unembed + bias with the
/// gain folded in, and the rows that the neurons of the last FFN write.
struct Readout {
  torch::Tensor unembed;  // fp32 [width, vocabulary]
  torch::Tensor bias;     // fp32 [vocabulary]
  torch::Tensor value;    // fp32 [neurons, width], under their original numbers
  bool centred = false;   // the norm takes the mean away (LayerNorm)
  double epsilon = 1e-5;
  double cap = 0;  // logits are cap tanh(logits / cap) in the end; 0 = they are not

  /// x without its mean where the norm takes that away.
  torch::Tensor centre(const torch::Tensor& x) const;
  torch::Tensor scale(const torch::Tensor& x) const;   // of the norm: [..., 1]
  torch::Tensor logits(const torch::Tensor& x) const;  // before a cap
};

/// Throws Error for a model without a language head, and for one whose last layer is not read by a
/// final norm (post-norm).
Readout readout(const lm::Transformer& model);
/// Value rows of one layer, fp32 [neurons, width], under their original numbers.
torch::Tensor value_rows(const lm::FeedForward& ffn);
/// What each value row adds to the logits if the norm's scale stays, centred over the vocabulary:
/// fp32 [rows, vocabulary].
torch::Tensor writes(const Readout& readout, const torch::Tensor& rows);

/// The directions of the stream that the unembedding hardly reads.
struct NullSpace {
  torch::Tensor basis;     // fp64 [width, k]
  torch::Tensor singular;  // fp64 [width], of the unembedding centred over tokens, descending
};
/// The last k left singular directions; k = 0: behind the largest gap (at least twofold) in the
/// last eighth of the spectrum, else ceil(0.01 width). The mean direction of a LayerNorm model,
/// which nothing can write, does not count.
NullSpace null_space(const Readout& readout, int64_t k = 0);
/// Share of each row's length inside the null space, fp64 [rows].
torch::Tensor null_share(const Readout& readout, const NullSpace& space, const torch::Tensor& rows);

/// log p less its mean, to length 1, p = (count + 1) / sum: fp64 [vocabulary].
torch::Tensor unigram_direction(std::span<const int64_t> counts);

/// The last layer over some tokens.
struct LastStream {
  torch::Tensor stream;       // fp32 [tokens, width], after the last block
  torch::Tensor activations;  // fp32 [tokens, neurons]
  torch::Tensor targets;      // i64 [tokens], the token that follows
};
/// Windows of `context` tokens; the first 3 and the last position of each are left out. At most
/// `tokens` are kept.
LastStream last_stream(lm::Transformer& model, std::span<const int32_t> ids, int64_t context,
                       int64_t tokens);

/// What one token's prediction is worth.
struct Prediction {
  double loss = 0, entropy = 0;   // nats
  int32_t top = 0, rank = 0;      // the most likely id; tokens more likely than the right one
  double unigram_divergence = 0;  // KL(unigram || model), nats
};

enum class Freeze { nothing, scale, unigram };

/// Mean ablation of neurons of the last layer by rank-1 updates of the logits: no product of width
/// x vocabulary is made again. `unigram` fp64 [vocabulary] may be undefined. The constructor throws
/// Error where shapes do not fit and where logits are capped.
class Ablation {
 public:
  Ablation(const Readout& readout, LastStream stream, const torch::Tensor& unigram = {},
           std::span<const int64_t> counts = {});

  int64_t tokens() const { return stream_.stream.size(0); }
  const std::vector<Prediction>& before() const { return before_; }

  /// Predictions at every token with a_n set to `to` (NaN: its mean over the tokens). With the
  /// scale frozen only the direct path acts; with the unigram frozen the logits are moved back
  /// along the unigram direction.
  std::vector<Prediction> run(int64_t neuron, Freeze freeze, double to) const;
  std::vector<Prediction> run(int64_t neuron, Freeze freeze) const;

  /// The same by computing the logits again in double, with libtorch; what `run` must equal.
  std::vector<Prediction> recomputed(int64_t neuron, Freeze freeze) const;

 private:
  struct Change;
  std::vector<Prediction> predictions(const std::vector<Change>& changes, const float* g) const;
  std::vector<Prediction> from_logits(const torch::Tensor& logits) const;

  Readout readout_;
  LastStream stream_;
  torch::Tensor centred_, square_, scale_;  // of the stream: [t, width], |x|^2 [t], [t]
  torch::Tensor plain_;                     // logits less bias, [t, vocabulary]
  torch::Tensor unigram_, frequency_;       // fp32 [vocabulary], the latter maybe undefined
  double frequency_moment_ = 0;             // sum over tokens of p log p
  std::vector<Prediction> before_;
};

/// Mean over tokens of |loss - loss before|.
double mean_effect(const std::vector<Prediction>& after, const std::vector<Prediction>& before);

/// Effect of mean-ablating one neuron and how it comes about.
struct Effect {
  double total = 0, direct = 0,
         frozen = 0;                   // mean |loss change|: all, scale frozen, unigram frozen
  double entropy = 0, divergence = 0;  // mean change of entropy and of KL(unigram || model)
  double norm_share() const { return total > 0 ? 1 - direct / total : 0; }
  double unigram_share() const { return total > 0 ? 1 - frozen / total : 0; }
};
Effect effect_of(const Ablation& ablation, int64_t neuron);

}  // namespace cajal::atlas
