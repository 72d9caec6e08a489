#pragma once
#include <torch/nn/modules/container/sequential.h>
#include <torch/nn/modules/embedding.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/modules/rnn.h>

#include <tuple>

#include "cajal/core/options.h"
#include "cajal/core/torch.h"

namespace cajal {

struct AdditiveAttentionOptions {
  int64_t query = 0, key = 0;  // features of each
  int64_t hidden = 0;          // 0: the smaller of both
};
CAJAL_OPTIONS(AdditiveAttentionOptions, query, key, hidden)

/// Additive attention, softmax over keys of w · tanh(W_q query + W_k key_i) + b.
/// Shapes: query [batch, query], keys [batch, regions, key] -> weights [batch, regions].
/// Source: Bahdanau et al. 2015, arXiv 1409.0473; Xu et al. 2015, arXiv 1502.03044.
class AdditiveAttentionImpl : public torch::nn::Module {
 public:
  explicit AdditiveAttentionImpl(const AdditiveAttentionOptions& options);
  torch::Tensor forward(const torch::Tensor& query, const torch::Tensor& keys);

  /// W_k keys, the same for every query: [batch, regions, hidden]. And the weights from it.
  torch::Tensor project(const torch::Tensor& keys) { return key_->forward(keys); }
  torch::Tensor weigh(const torch::Tensor& query, const torch::Tensor& projected);

  const AdditiveAttentionOptions options;

 private:
  torch::nn::Linear query_{nullptr}, key_{nullptr};
  torch::nn::Sequential output_;
};
TORCH_MODULE(AdditiveAttention);

struct ShowAttendTellOptions {
  int64_t vocabulary = 0, features = 0;
  int64_t embedding = 128, hidden = 512;
  int64_t attention_hidden = 0;  // 0: the smaller of hidden and features
  double dropout = 0.5;          // before the output
};
CAJAL_OPTIONS(ShowAttendTellOptions, vocabulary, features, embedding, hidden, attention_hidden,
              dropout)

/// What a describer knows after some words.
struct DescriberState {
  torch::Tensor h, c;  // [batch, hidden]
};

/// Describes a set of regions word by word: an LSTM cell whose input is the last word and the gated
/// context that additive attention takes from the regions; h and c start as tanh of a full layer of
/// the mean region. Parameters are named as in the authors' checkpoints.
/// Shapes: features [batch, regions, features], words i64 [batch, words] (the first is "start")
/// -> log_probabilities [batch, words, vocabulary] of each next word, attention [batch, words,
/// regions].
/// Source: Hernandez et al. 2022, arXiv 2201.11114; dossier milan, Build 3.
class ShowAttendTellImpl : public torch::nn::Module {
 public:
  explicit ShowAttendTellImpl(const ShowAttendTellOptions& options);
  std::tuple<torch::Tensor, torch::Tensor> forward(const torch::Tensor& features,
                                                   const torch::Tensor& words);

  DescriberState start(const torch::Tensor& features);
  torch::Tensor project(const torch::Tensor& features) { return attend_->project(features); }
  /// One word, i64 [batch]: {log-probabilities [batch, vocabulary], attention [batch, regions]};
  /// `projected` is project(features). Moves the state on.
  std::tuple<torch::Tensor, torch::Tensor> step(const torch::Tensor& features,
                                                const torch::Tensor& projected,
                                                const torch::Tensor& word, DescriberState& state);

  const ShowAttendTellOptions options;

 private:
  torch::nn::Sequential init_h_, init_c_, gate_, output_;
  torch::nn::Embedding embedding_{nullptr};
  AdditiveAttention attend_{nullptr};
  torch::nn::LSTMCell lstm_{nullptr};
};
TORCH_MODULE(ShowAttendTell);

struct LstmLanguageModelOptions {
  int64_t vocabulary = 0;
  int64_t embedding = 128, hidden = 512, layers = 2;
  double dropout = 0.5;  // between the layers
};
CAJAL_OPTIONS(LstmLanguageModelOptions, vocabulary, embedding, hidden, layers, dropout)

/// Language model of short phrases: embedding, stacked LSTM, one full layer.
/// Shapes: words i64 [batch, words] -> log_probabilities [batch, words, vocabulary] of each next.
/// Source: dossier milan, Build 5.
class LstmLanguageModelImpl : public torch::nn::Module {
 public:
  explicit LstmLanguageModelImpl(const LstmLanguageModelOptions& options);
  torch::Tensor forward(const torch::Tensor& words);

  /// One word, i64 [batch] -> [batch, vocabulary]; moves the states [layers, batch, hidden] on.
  torch::Tensor step(const torch::Tensor& word, DescriberState& state);
  DescriberState start(int64_t batch) const;

  const LstmLanguageModelOptions options;

 private:
  torch::nn::Embedding embedding_{nullptr};
  torch::nn::LSTM lstm_{nullptr};
  torch::nn::Sequential output_;
};
TORCH_MODULE(LstmLanguageModel);

}  // namespace cajal
