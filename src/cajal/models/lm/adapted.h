#pragma once
#include <filesystem>
#include <functional>
#include <span>
#include <vector>

#include "cajal/core/options.h"
#include "cajal/layers/ffn/routed.h"
#include "cajal/layers/mixers/sparse_attention.h"
#include "cajal/models/lm/generate.h"
#include "cajal/models/lm/transformer.h"

namespace cajal::lm {

/// What attention a model is tuned with.
enum class AdaptedAttention {
  dense,
  chunked,    // dense, with scores made anew in the backward pass: little memory
  quantised,  // dense, while the product quantisers of the sparse form learn
  sparse      // over the keys that the quantisers find
};

/// How a trained model is tuned with few parameters. The defaults are SPT's: LoRA everywhere, half
/// of the FFN's blocks and an eighth of the keys a token.
struct AdapterOptions {
  int64_t rank = 16;      // of the corrections; 0 = none
  double alpha = 0;       // they count alpha / rank, with Kaiming's start; 0: they count 1
  bool embedding = true;  // the token embedding and the vocabulary have corrections as well
  int64_t blocks = 4;     // of a routed FFN; 0 = not routed
  int64_t active = 0;     // blocks that a token reads; 0 = half of them
  double balance = 0;     // weight of the balance loss of the routers
  AdaptedAttention attention = AdaptedAttention::sparse;
  int64_t keys = 0;  // of a query; 0 = an eighth of the model's context
  KeySearch search = KeySearch::codes;
  bool keep_diagonal = true;
  int64_t sink = 0;
  double clamp = 10;
  double quantiser_weight = 0.01;  // of the quantisers' loss
  int64_t quantiser_every = 1;     // training steps between two that have that loss
  int64_t quantiser_rounds = 5;    // of Lloyd's on the first batch; 0 = start from N(0, 1)
  bool stop_gradient = false;      // that loss does not move queries and keys
  bool recompute = false;          // keep only what enters a block (activation checkpointing)
};
CAJAL_OPTIONS(AdapterOptions, rank, alpha, embedding, blocks, active, balance, attention, keys,
              search, keep_diagonal, sink, clamp, quantiser_weight, quantiser_every,
              quantiser_rounds, stop_gradient, recompute)

/// A model with adapters: its weights are frozen, and the parameters of this module (corrections,
/// routers, codebooks) are what training changes. At the start it computes what the model does, but
/// for blocks and keys that are left out. Parameters: layers.I.{query,key,value,output,ffn_key,
/// ffn_gate,ffn_value}_{left,right}, layers.I.{router,router_bias}, layers.I.codebooks,
/// {embedding,vocabulary}_{left,right}.
/// Source: Gui et al. 2023, arXiv 2312.10365; Hu et al. 2021, arXiv 2106.09685; dossier spt.
class AdaptedImpl : public torch::nn::Module {
 public:
  /// Freezes the weights of `model` (fp32, as make_trainable leaves them), but for rank 0 without
  /// routing, which tunes them all. Throws Error for options that do not fit the
  /// model and for models that the fused training way does not take.
  AdaptedImpl(Transformer model, const AdapterOptions& options, uint64_t seed);

  /// ids i64 [batch, tokens] -> logits [batch x tokens, vocabulary].
  torch::Tensor forward(const torch::Tensor& ids);
  /// Mean cross entropy in nats, plus in training the weighted losses of quantisers and routers.
  torch::Tensor loss(const torch::Tensor& ids, const torch::Tensor& targets);

  /// What training changes: the parameters here, and the model's own in full tuning.
  std::vector<torch::Tensor> trainable() const;
  bool full() const;
  int64_t context() const { return model_->config.context; }

  /// Whether the corrections can be folded into the weights exactly, and the model that results.
  /// Throws Error where FFNs are routed or attention is sparse.
  bool merges() const;
  Transformer merged() const;

  /// Called with a layer and its queries and keys [batch, heads, tokens, head_width], after RoPE.
  std::function<void(int64_t, const torch::Tensor&, const torch::Tensor&)> watch = {};

  const AdapterOptions options;

 private:
  struct Layer {
    LowRank fused, query, key, value, output;
    NeuronRowsView neurons;
    torch::Tensor router, router_bias;
    SparseAttention attention{nullptr};
  };
  torch::Tensor run_layer(int64_t layer, const torch::Tensor& x);
  torch::Tensor attend(int64_t layer, const torch::Tensor& x);
  torch::Tensor feed_forward(int64_t layer, const torch::Tensor& x);
  torch::Tensor project(const Linear& linear, const LowRank& correction,
                        const torch::Tensor& x) const;
  torch::Tensor rotate(const torch::Tensor& x) const;
  LowRank correction(torch::nn::Module& at, const std::string& name, int64_t inputs,
                     int64_t outputs);
  void make_layer(int64_t layer);

  Transformer model_;
  double scale_ = 1;  // of corrections
  std::vector<Layer> layers_;
  LowRank embedding_, vocabulary_;
  torch::Tensor cosine_, sine_;
  torch::Tensor extra_;  // losses of the pass under way
  int64_t steps_ = 0;
  bool quantise_now_ = false, started_ = false;
};
TORCH_MODULE(Adapted);

/// Loss over `ids` in windows of `context` that do not overlap, as `evaluate` of a Transformer.
Evaluation evaluate(Adapted& model, std::span<const int32_t> ids, int64_t bytes, int64_t context,
                    int64_t batch);

/// Writes adapters.safetensors into a checkpoint folder and says so in its config.json, so that
/// what cannot run them refuses the folder.
void save_adapters(const Adapted& adapted, const std::filesystem::path& folder);
bool has_adapters(const std::filesystem::path& folder);
/// The model of such a folder with its adapters. Throws Error naming file and tensor.
Adapted load_adapted(const std::filesystem::path& folder);

}  // namespace cajal::lm

CAJAL_ENUM(cajal::lm::AdaptedAttention, {cajal::lm::AdaptedAttention::dense, "dense"},
           {cajal::lm::AdaptedAttention::chunked, "chunked"},
           {cajal::lm::AdaptedAttention::quantised, "quantised"},
           {cajal::lm::AdaptedAttention::sparse, "sparse"})
