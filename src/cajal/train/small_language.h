#pragma once
#include <functional>
#include <memory>
#include <vector>

#include "cajal/core/options.h"
#include "cajal/models/lm/transformer.h"

namespace cajal::train {

/// Byte-level GPT of dossier _sparse-ffn: pre-LN, learned positions, tied unembedding. The defaults
/// are its preset nano.
struct SmallLanguageOptions {
  int64_t width = 128, layers = 4, heads = 4, neurons = 512, context = 128;
  std::string law = "relu";
  int64_t batch = 16, steps = 1500;
  double learning_rate = 1e-3, beta2 = 0.95, weight_decay = 0.1;
};
CAJAL_OPTIONS(SmallLanguageOptions, width, layers, heads, neurons, context, law, batch, steps,
              learning_rate, beta2, weight_decay)

/// A small language model whose FFNs may be others.
class SmallLanguageModel {
 public:
  /// Weights by `seed`, as lm::initialise.
  SmallLanguageModel(const SmallLanguageOptions& options, uint64_t seed, torch::Device device);

  /// x [batch, tokens, width] and ids i64 [batch, tokens] -> what is added to the stream.
  using Network = std::function<torch::Tensor(const torch::Tensor& x, const torch::Tensor& ids)>;
  /// Puts `network` in place of the FFN of `layer` and trains the parameters of `module`.
  void replace(int64_t layer, const std::shared_ptr<torch::nn::Module>& module, Network network);
  /// A loss that the networks ask for, added to the next training step's.
  void add_loss(const torch::Tensor& loss);

  /// Trains on windows of `bytes` u8 [size] at places drawn from libtorch's generator: AdamW,
  /// cosine to a tenth, clip 1. Throws Error when the loss is no number.
  void fit(const torch::Tensor& bytes);

  /// Over all of `bytes` in windows that do not overlap.
  double bits_per_byte(const torch::Tensor& bytes);

  /// Parameters that are used; multiply-adds a token without those of replaced FFNs.
  int64_t parameter_count() const;
  int64_t base_multiply_adds() const;

  const SmallLanguageOptions options;
  lm::Transformer model{nullptr};

 private:
  torch::Tensor loss_of(const torch::Tensor& window);

  torch::Device device_;
  std::vector<torch::Tensor> parameters_;
  std::vector<std::shared_ptr<torch::nn::Module>> modules_;
  std::shared_ptr<torch::Tensor> ids_;  // of the pass under way
  torch::Tensor extra_;
};

/// The bytes of a corpus or file as u8 [size], no more than `limit`.
torch::Tensor text_bytes(const std::string& path_or_name, int64_t limit);

}  // namespace cajal::train
