#pragma once
#include <functional>
#include <memory>
#include <vector>

#include "cajal/core/tensors.h"
#include "cajal/core/torch.h"
#include "cajal/engine/config.h"
#include "cajal/engine/packed_layout.h"
#include "cajal/layers/matrix.h"
#include "cajal/layers/ops.h"
#include "cajal/models/lm/cache.h"
#include "cajal/models/lm/hooks.h"

namespace cajal::lm {

using cajal::NormKind;

struct Norm {
  torch::Tensor weight, bias;  // undefined where a family has none
};

struct Linear {
  Matrix weight;
  torch::Tensor bias;  // [outputs] or undefined
  bool defined() const { return weight.defined(); }
  torch::Tensor forward(const torch::Tensor& x) const;
};

/// A range of neurons of one FFN that share a storage format. A plain model has one group; a split
/// model has several, in the order in which their rows are stored.
struct NeuronGroup {
  Matrix key, gate;  // one output a neuron; rows are neurons but in GPT-2, whose files hold columns
  Matrix value;      // Major::output as HF stores it, or Major::input with one row a neuron
  torch::Tensor key_bias, gate_bias;
  int64_t neurons() const { return key.outputs(); }
};

/// The neurons of one FFN (of one group) cut into `count` equal runs, of which a token uses
/// `active`.
struct Experts {
  int64_t count = 0, active = 0;
  RouterKind router = RouterKind::mlp;
  torch::Tensor first, second;  // [count, width], [count, count] or undefined, as they are stored
};

struct FeedForward {
  std::vector<NeuronGroup> groups;
  torch::Tensor value_bias;
  torch::Tensor order;  // i32 [neurons]: which neuron of the original model a stored one is, or
                        // undefined where they stand in their own order

  std::shared_ptr<const Experts> experts = {};  // none: every neuron counts for every token

  /// Where set, what the layer computes instead of its groups: x [batch, tokens, width] (normed) ->
  /// what is added to the stream. A layer put in place of the FFN; not written to checkpoints.
  std::function<torch::Tensor(const torch::Tensor& x)> instead = {};
};

struct Attention {
  Linear query, key, value;
  Linear fused;  // instead of the three: q|k|v blocks (GPT-2, Phi-3, timm) or, where
                 // `fused_by_head`, q|k|v of one head after another (GPT-NeoX)
  bool fused_by_head = false;
  Linear output;
  Norm query_norm, key_norm;
};

struct Block {
  Norm norm1, norm1_after, norm2, norm2_after;  // *_after: Gemma 2 and 3
  Attention attention;
  FeedForward ffn;
};

/// What turns ids or pixels into the residual stream.
struct Embedding {
  Matrix tokens;                                  // [vocabulary, embedding_width]
  Matrix positions;                               // learned: [position_offset + context, width]
  Matrix token_types;                             // BERT
  Norm norm;                                      // BERT
  Linear project;                                 // OPT: embedding_width -> width
  torch::Tensor class_token, distillation_token;  // [width]
  Linear patch;                                   // [channels x patch x patch] -> width
};

/// What turns the residual stream into answers.
struct Output {
  Norm norm;
  Linear project;    // OPT: width -> embedding_width
  Linear transform;  // masked heads: law and norm before the vocabulary
  Norm transform_norm;
  Linear vocabulary;  // shares Embedding::tokens where tied
  Linear pooler, classes, distillation_classes, next_sentence;
};

/// How one forward pass is to run.
struct Pass {
  KeyValueCache* cache = nullptr;  // appended to; the tokens given follow those it holds
  Hooks* hooks = nullptr;
  torch::Tensor mask = {};  // [batch, tokens in the cache + tokens], 0 = padding; or undefined
  torch::Tensor token_types = {};  // [batch, tokens]; undefined: zeros
  int64_t stop_at_layer = -1;      // return the residual stream before this layer
  bool last_token_only = false;    // logits of the last position alone: [batch, 1, vocabulary]
};

/// The one transformer under every language and vision family; differences are flags of Config.
/// Shapes: ids i64 [batch, tokens] or pixels f32 [batch, channels, size, size] ->
/// logits [batch, tokens, vocabulary] or [batch, classes]; with Head::none the final hidden states.
/// Throws Error for ids out of range and for more tokens than the context holds.
/// Source: dossier _language-model.
class TransformerImpl : public torch::nn::Module {
 public:
  explicit TransformerImpl(
      Config config);  // no weights yet: `checkpoint.h` fills or initialises them

  torch::Tensor forward(const torch::Tensor& input, const Pass& pass = {});
  // The parts of a pass, for layer-at-a-time work (atlas over models larger than memory). With a
  // cache, the caller advances it after the last layer.
  torch::Tensor embed(const torch::Tensor& input, const Pass& pass = {});
  torch::Tensor block(int64_t layer, const torch::Tensor& residual, const Pass& pass = {});
  torch::Tensor unembed(const torch::Tensor& residual, const Pass& pass = {});

  /// Lets go of a layer's mapped pages after use.
  void forget(int64_t layer) const;

  Config config;
  Embedding embedding;
  std::vector<Block> blocks;
  Output output;

  /// How the groups and matrices are stored that are not plain floats; empty in a plain model.
  PackedLayout layout;
  /// The file that the weights are views of, if any, and what each layer takes of it.
  std::shared_ptr<const TensorFile> file;
  std::vector<std::vector<StoredTensor>> mapped;
};
TORCH_MODULE(Transformer);

}  // namespace cajal::lm
