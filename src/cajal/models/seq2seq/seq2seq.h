#pragma once
#include <vector>

#include "cajal/core/options.h"
#include "cajal/core/torch.h"
#include "cajal/layers/ffn/shared.h"

/// Encoder-decoder transformers, as small as studies of translation need them.
namespace cajal::seq2seq {

struct Seq2SeqOptions {
  int64_t vocabulary = 0;  // of both languages; ids 0 pad, 1 begin, 2 end
  int64_t width = 128, heads = 4;
  int64_t neurons = 512;       // of an own feed-forward network
  int64_t shared_neurons = 0;  // of a shared one; 0 = neurons
  FfnPlan encoder = {"own", "own", "own"}, decoder = {"own", "own", "own"};
  bool share_layers = false;  // each stack uses its first layer throughout (ALBERT)
  bool post_norm = false;     // norm(x + f(x)) instead of x + f(norm(x))
  bool scale_wide = false;    // values of a shared network start times √(neurons/shared_neurons)
  double dropout = 0.1;
  int64_t context = 64;  // longest sentence
};
CAJAL_OPTIONS(Seq2SeqOptions, vocabulary, width, heads, neurons, shared_neurons, encoder, decoder,
              share_layers, post_norm, scale_wide, dropout, context)

/// Source as the decoder needs it.
struct Memory {
  torch::Tensor states;  // [batch, source, width]
  torch::Tensor bias;    // [batch, 1, 1, source], -inf at padding
};

struct Attention {
  torch::Tensor query, key, value, output;                      // [width, width]
  torch::Tensor query_bias, key_bias, value_bias, output_bias;  // [width]
};
struct Norm {
  torch::Tensor weight, bias;
};
struct Layer {
  Norm self_norm, cross_norm, ffn_norm;  // cross_norm: decoder; ffn_norm: where there is an FFN
  Attention self, cross;
  std::shared_ptr<DenseFeedForwardImpl> ffn;  // nullptr: the sub-layer is not there
};

/// Keys and values of the decoder's layers: of the words so far, and of the source.
struct DecoderCache {
  struct Pair {
    torch::Tensor k, v;  // [batch, heads, words, head width]
  };
  std::vector<Pair> self, cross;
  int64_t words = 0;
  /// Keeps the rows `order` i64 of the batch.
  void select(const torch::Tensor& order);
};

/// Encoder-decoder transformer with sinusoidal positions, tied embeddings and feed-forward networks
/// by plan; "none" removes the sub-layer with its norm and its residual sum.
/// Shapes: source i64 [batch, source], target i64 [batch, target] (padding 0) -> logits [batch,
/// target, vocabulary]. Throws Error for ids out of range and sentences beyond the context.
/// Source: Vaswani et al. 2017, arXiv 1706.03762; plans of dossier one-wide-ffn.
class Seq2SeqImpl : public torch::nn::Module {
 public:
  explicit Seq2SeqImpl(const Seq2SeqOptions& options);
  torch::Tensor forward(const torch::Tensor& source, const torch::Tensor& target);

  Memory encode(const torch::Tensor& source);
  /// `taps`, where given, gets the residual stream behind each layer, of encoder and decoder.
  torch::Tensor decode(const Memory& memory, const torch::Tensor& target);
  /// One more word for each sentence, i64 [batch] -> logits [batch, vocabulary].
  torch::Tensor step(const Memory& memory, const torch::Tensor& word, DecoderCache& cache);

  int64_t parameter_count() const;  // shared ones once
  int64_t ffn_parameters(bool encoder) const;
  int64_t decoder_parameters() const;  // what a decoded word reads, the table of words included

  const Seq2SeqOptions options;
  std::vector<torch::Tensor>* taps = nullptr;

 private:
  struct KeysValues {
    torch::Tensor k, v;
  };
  Layer make_layer(const std::string& name, const std::string& entry, bool decoder);
  torch::Tensor embed(const torch::Tensor& ids, int64_t first);
  torch::Tensor drop(const torch::Tensor& x) const;
  torch::Tensor sub_layer(const torch::Tensor& x, const Norm& norm,
                          const std::function<torch::Tensor(const torch::Tensor&)>& f) const;
  torch::Tensor heads(const torch::Tensor& x, const torch::Tensor& weight,
                      const torch::Tensor& bias) const;
  torch::Tensor attend(const torch::Tensor& x, const Attention& a, const KeysValues& kv,
                       const torch::Tensor& bias, bool causal) const;
  KeysValues keys_values(const torch::Tensor& x, const Attention& a) const;
  torch::Tensor decoder_layer(const Layer& layer, const torch::Tensor& x, const Memory& memory,
                              DecoderCache* cache, size_t index) const;
  torch::Tensor answer(const torch::Tensor& x) const;

  FfnBank bank_{nullptr};
  std::vector<Layer> encoder_, decoder_;
  torch::Tensor embedding_, positions_;
  Norm encoder_norm_, decoder_norm_;
};
TORCH_MODULE(Seq2Seq);

/// The most likely word at each place until the end word or `limit` words; source i64 [batch,
/// source]. Without the end word.
std::vector<std::vector<int32_t>> greedy(Seq2Seq& model, const torch::Tensor& source,
                                         int64_t limit);

/// Beam search for one sentence, source i64 [1, source]: of finished sentences the highest
/// log-probability / ((5 + length) / 6)^penalty.
std::vector<int32_t> beam(Seq2Seq& model, const torch::Tensor& source, int64_t limit, int64_t beams,
                          double penalty);

/// A plan for both stacks by its name: baseline, shared_enc, shared_dec, shared_enc_shared_dec,
/// shared_enc_dec, no_enc, no_dec, shared_enc_no_dec, one_wide, wide_dec, wide_enc_dec; and rivals:
/// small_ff (smaller FFNs, as many parameters as shared_enc_no_dec), deep_shallow (one decoder
/// layer, the rest spent on encoder layers), shared_layers (one layer's weights a stack). For the
/// wide ones shared_neurons is set so that all parameters are as many as the baseline's.
/// Throws Error for another name.
Seq2SeqOptions planned(Seq2SeqOptions baseline, std::string_view name);

}  // namespace cajal::seq2seq
