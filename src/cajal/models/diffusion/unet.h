#pragma once
#include <torch/nn/modules/container/modulelist.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/embedding.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/modules/normalization.h>

#include <string>
#include <vector>

#include "cajal/core/options.h"
#include "cajal/core/torch.h"

/// A small text-to-image diffusion model. Source: dossier concept-neurons, Build 7.
namespace cajal::diffusion {

struct CrossAttentionOptions {
  int64_t width = 0, context_width = 0;
  int64_t heads = 4, inner = 64;  // inner: features of all heads together
};
CAJAL_OPTIONS(CrossAttentionOptions, width, context_width, heads, inner)

/// Multi-head attention from positions to words: softmax(q kᵀ / √(inner / heads)) v, then a full
/// layer; no biases but the last. `key` and `value` are members that may be replaced by tensors
/// computed from other parameters.
/// Shapes: x [batch, positions, width], context [batch, words, context_width] -> y [batch,
/// positions, width]; key, value [inner, context_width].
class CrossAttentionImpl : public torch::nn::Module {
 public:
  explicit CrossAttentionImpl(const CrossAttentionOptions& options);
  torch::Tensor forward(const torch::Tensor& x, const torch::Tensor& context) const;

  const CrossAttentionOptions options;
  torch::Tensor query, key, value, output, output_bias;
};
TORCH_MODULE(CrossAttention);

struct TextToImageOptions {
  int64_t colours = 1, size = 28;
  std::vector<int64_t> channels = {32, 64, 64};  // of each resolution, halved in between
  int64_t blocks = 2;                            // residual blocks a resolution, down and up
  int64_t groups = 8;                            // of group norm
  int64_t time = 64, time_hidden = 128;
  int64_t heads = 4, inner = 64;  // of cross-attention, at all resolutions but the first
  int64_t vocabulary = 32, words = 12, text_width = 64;
};
CAJAL_OPTIONS(TextToImageOptions, colours, size, channels, blocks, groups, time, time_hidden, heads,
              inner, vocabulary, words, text_width)

/// GroupNorm, SiLU, convolution, plus the time's projection; the same again; plus the input.
class ResidualBlockImpl : public torch::nn::Module {
 public:
  ResidualBlockImpl(int64_t in, int64_t out, int64_t time, int64_t groups);
  torch::Tensor forward(const torch::Tensor& x, const torch::Tensor& time);

 private:
  torch::nn::GroupNorm norm1_, norm2_;
  torch::nn::Conv2d conv1_, conv2_, skip_{nullptr};
  torch::nn::Linear time_;
};
TORCH_MODULE(ResidualBlock);

/// Predicts the noise in pictures from captions: a text encoder (embedding and one transformer
/// layer) and a U-Net with cross-attention to the words.
/// Shapes: x [batch, colours, size, size], time [batch] in steps, words i64 [batch, words] ->
/// [batch, colours, size, size].
class TextToImageImpl : public torch::nn::Module {
 public:
  explicit TextToImageImpl(const TextToImageOptions& options);
  torch::Tensor forward(const torch::Tensor& x, const torch::Tensor& time,
                        const torch::Tensor& words);
  torch::Tensor encode(const torch::Tensor& words);  // [batch, words, text_width]
  torch::Tensor denoise(const torch::Tensor& x, const torch::Tensor& time,
                        const torch::Tensor& context);

  const TextToImageOptions options;
  torch::Tensor embedding;  // [vocabulary, text_width]; may be replaced like CrossAttention's key
  std::vector<CrossAttention> attentions;

 private:
  struct Stage {
    ResidualBlock residual{nullptr};
    torch::nn::GroupNorm norm{nullptr};
    CrossAttention attention{nullptr};
  };
  Stage stage(const std::string& name, int64_t in, int64_t out, bool attends);
  torch::Tensor run(Stage& stage, const torch::Tensor& x, const torch::Tensor& time,
                    const torch::Tensor& context);

  torch::Tensor positions_;
  torch::nn::LayerNorm text_norm1_{nullptr}, text_norm2_{nullptr}, text_norm3_{nullptr};
  torch::nn::Linear text_qkv_{nullptr}, text_out_{nullptr}, text_up_{nullptr}, text_down_{nullptr};
  torch::nn::Linear time1_{nullptr}, time2_{nullptr};
  torch::nn::Conv2d first_{nullptr}, last_{nullptr};
  torch::nn::GroupNorm last_norm_{nullptr};
  std::vector<std::vector<Stage>> down_, up_;
  std::vector<torch::nn::Conv2d> shrink_, grow_;
};
TORCH_MODULE(TextToImage);

/// [batch, width]: sines and cosines of time at frequencies from 1 to 1/10000.
torch::Tensor sinusoidal(const torch::Tensor& time, int64_t width);

}  // namespace cajal::diffusion
