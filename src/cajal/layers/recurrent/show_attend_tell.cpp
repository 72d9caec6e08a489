#include "cajal/layers/recurrent/show_attend_tell.h"

#include <torch/nn/modules/activation.h>
#include <torch/nn/modules/dropout.h>

#include <algorithm>

#include "cajal/layers/layer.h"

namespace cajal {

using torch::Tensor;
namespace nn = torch::nn;

AdditiveAttentionImpl::AdditiveAttentionImpl(const AdditiveAttentionOptions& o) : options(o) {
  require(o.query > 0 && o.key > 0 && o.hidden >= 0,
          "additive_attention: query and key must be positive and hidden not negative, got {}, {} "
          "and {}",
          o.query, o.key, o.hidden);
  const int64_t hidden = o.hidden > 0 ? o.hidden : std::min(o.query, o.key);
  query_ = register_module("query_to_hidden", nn::Linear(o.query, hidden));
  key_ = register_module("key_to_hidden", nn::Linear(o.key, hidden));
  output_ = register_module("output", nn::Sequential(nn::Linear(hidden, 1)));
}

Tensor AdditiveAttentionImpl::weigh(const Tensor& query, const Tensor& projected) {
  const auto hidden = torch::tanh(query_->forward(query).unsqueeze(1) + projected);
  return torch::softmax(output_->forward(hidden).squeeze(-1), 1);
}

Tensor AdditiveAttentionImpl::forward(const Tensor& query, const Tensor& keys) {
  require(query.dim() == 2 && query.size(1) == options.query,
          "additive_attention: query is {}, expected [batch, query] with query = {}",
          shape_text(query.sizes()), options.query);
  require(keys.dim() == 3 && keys.size(0) == query.size(0) && keys.size(2) == options.key,
          "additive_attention: keys are {}, expected [batch, regions, key] with batch = {}, key = "
          "{}",
          shape_text(keys.sizes()), query.size(0), options.key);
  return weigh(query, project(keys));
}

ShowAttendTellImpl::ShowAttendTellImpl(const ShowAttendTellOptions& o) : options(o) {
  require(o.vocabulary > 0 && o.features > 0 && o.embedding > 0 && o.hidden > 0,
          "show_attend_tell: vocabulary, features, embedding and hidden must be positive, got {}, "
          "{}, {} and {}",
          o.vocabulary, o.features, o.embedding, o.hidden);
  require(o.dropout >= 0 && o.dropout < 1, "show_attend_tell: dropout is {}, expected 0 to below 1",
          o.dropout);
  const auto starter = [&] { return nn::Sequential(nn::Linear(o.features, o.hidden), nn::Tanh()); };
  init_h_ = register_module("init_h", starter());
  init_c_ = register_module("init_c", starter());
  embedding_ = register_module("embedding", nn::Embedding(o.vocabulary, o.embedding));
  attend_ = register_module("attend", AdditiveAttention(AdditiveAttentionOptions{
                                          o.hidden, o.features, o.attention_hidden}));
  gate_ = register_module("feature_gate",
                          nn::Sequential(nn::Linear(o.hidden, o.features), nn::Sigmoid()));
  lstm_ = register_module("lstm", nn::LSTMCell(o.embedding + o.features, o.hidden));
  output_ = register_module(
      "output", nn::Sequential(nn::Dropout(o.dropout), nn::Linear(o.hidden, o.vocabulary)));
}

DescriberState ShowAttendTellImpl::start(const Tensor& features) {
  const auto mean = features.mean(1);
  return {init_h_->forward(mean), init_c_->forward(mean)};
}

std::tuple<Tensor, Tensor> ShowAttendTellImpl::step(const Tensor& features, const Tensor& projected,
                                                    const Tensor& word, DescriberState& state) {
  const auto weights = attend_->weigh(state.h, projected);
  const auto context = torch::bmm(weights.unsqueeze(1), features).squeeze(1);
  const auto gated = context * gate_->forward(state.h);
  std::tie(state.h, state.c) = lstm_->forward(torch::cat({embedding_->forward(word), gated}, -1),
                                              std::tuple(state.h, state.c));
  return {torch::log_softmax(output_->forward(state.h), -1), weights};
}

std::tuple<Tensor, Tensor> ShowAttendTellImpl::forward(const Tensor& features,
                                                       const Tensor& words) {
  require(features.dim() == 3 && features.size(1) > 0 && features.size(2) == options.features,
          "show_attend_tell: features are {}, expected [batch, regions, features] with features = "
          "{}",
          shape_text(features.sizes()), options.features);
  require(words.dim() == 2 && words.size(0) == features.size(0) && words.size(1) > 0,
          "show_attend_tell: words are {}, expected [batch, words] with batch = {}",
          shape_text(words.sizes()), features.size(0));
  const auto projected = project(features);
  auto state = start(features);
  std::vector<Tensor> odds, attention;
  for (int64_t t = 0; t < words.size(1); ++t) {
    const auto [next, weights] = step(features, projected, words.select(1, t), state);
    odds.push_back(next), attention.push_back(weights);
  }
  return {torch::stack(odds, 1), torch::stack(attention, 1)};
}

LstmLanguageModelImpl::LstmLanguageModelImpl(const LstmLanguageModelOptions& o) : options(o) {
  require(o.vocabulary > 0 && o.embedding > 0 && o.hidden > 0 && o.layers > 0,
          "lstm_language_model: vocabulary, embedding, hidden and layers must be positive, got {}, "
          "{}, {} and {}",
          o.vocabulary, o.embedding, o.hidden, o.layers);
  require(o.dropout >= 0 && o.dropout < 1,
          "lstm_language_model: dropout is {}, expected 0 to below 1", o.dropout);
  embedding_ = register_module("embedding", nn::Embedding(o.vocabulary, o.embedding));
  lstm_ = register_module("lstm", nn::LSTM(nn::LSTMOptions(o.embedding, o.hidden)
                                               .num_layers(o.layers)
                                               .dropout(o.layers > 1 ? o.dropout : 0)
                                               .batch_first(true)));
  output_ = register_module("output", nn::Sequential(nn::Linear(o.hidden, o.vocabulary)));
}

Tensor LstmLanguageModelImpl::forward(const Tensor& words) {
  require(words.dim() == 2 && words.size(1) > 0,
          "lstm_language_model: words are {}, expected [batch, words]", shape_text(words.sizes()));
  const auto hidden = std::get<0>(lstm_->forward(embedding_->forward(words)));
  return torch::log_softmax(output_->forward(hidden), -1);
}

DescriberState LstmLanguageModelImpl::start(int64_t batch) const {
  const auto zeros = torch::zeros({options.layers, batch, options.hidden},
                                  embedding_->weight.options().requires_grad(false));
  return {zeros, zeros};
}

Tensor LstmLanguageModelImpl::step(const Tensor& word, DescriberState& state) {
  const auto [hidden, next] =
      lstm_->forward(embedding_->forward(word).unsqueeze(1), std::tuple(state.h, state.c));
  std::tie(state.h, state.c) = next;
  return torch::log_softmax(output_->forward(hidden.select(1, 0)), -1);
}

namespace {

bool add_attention() {
  layers::Declaration<AdditiveAttentionOptions> declared;
  declared.example = {.query = 8, .key = 6};
  declared.inputs = {{"query", "[batch, query]"}, {"keys", "[batch, regions, key]"}};
  declared.outputs = {{"weights", "[batch, regions]"}};
  return layers::add<AdditiveAttention>(
      "additive_attention", "softmax of w tanh(W_q q + W_k k_i) over regions", declared);
}
bool add_describer() {
  layers::Declaration<ShowAttendTellOptions> declared;
  declared.example = {.vocabulary = 20, .features = 12, .embedding = 6, .hidden = 8};
  declared.inputs = {{"features", "[batch, regions, features]"},
                     {"words", "[batch, words]", "vocabulary"}};
  declared.outputs = {{"log_probabilities", "[batch, words, vocabulary]"},
                      {"attention", "[batch, words, regions]"}};
  return layers::add<ShowAttendTell>("show_attend_tell",
                                     "LSTM that describes regions word by word (MILAN)", declared);
}
bool add_language_model() {
  layers::Declaration<LstmLanguageModelOptions> declared;
  declared.example = {.vocabulary = 20, .embedding = 6, .hidden = 8};
  declared.inputs = {{"words", "[batch, words]", "vocabulary"}};
  declared.outputs = {{"log_probabilities", "[batch, words, vocabulary]"}};
  return layers::add<LstmLanguageModel>(
      "lstm_language_model", "stacked LSTM over words, log-probabilities of the next", declared);
}
const auto registered = add_attention() && add_describer() && add_language_model();

}  // namespace
}  // namespace cajal
