#include "cajal/train/sentences.h"

#include <torch/nn/utils/clip_grad.h>
#include <torch/optim/adamw.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <sstream>

#include "cajal/core/error.h"
#include "cajal/layers/ops.h"
#include "cajal/models/lm/checkpoint.h"

namespace cajal::train {
namespace {

constexpr int64_t kUnknown = 1;

lm::Config config_of(const SentenceOptions& o) {
  const Json json = {{"model_type", "gpt2"},        {"architectures", {"GPT2LMHeadModel"}},
                     {"n_embd", o.width},           {"n_layer", o.layers},
                     {"n_head", o.heads},           {"n_inner", o.neurons},
                     {"n_positions", o.words},      {"vocab_size", o.vocabulary},
                     {"activation_function", o.law}};
  return lm::config_from_json(json, "sentence classifier");
}

std::vector<std::string> words_of(const std::string& text) {
  std::istringstream stream(text);
  std::vector<std::string> words;
  for (std::string word; stream >> word;) words.push_back(word);
  return words;
}

torch::Tensor labels_of(const data::LabelledTexts& texts) {
  return torch::tensor(std::vector<int64_t>(texts.labels.begin(), texts.labels.end()),
                       torch::kLong);
}

}  // namespace

SentenceClassifier::SentenceClassifier(const SentenceOptions& o, const data::LabelledTexts& train,
                                       uint64_t seed)
    : options(o), model(lm::initialise(config_of(o), seed)) {
  require(!train.texts.empty(), "sentence classifier: no sentences to train on");
  std::map<std::string, int64_t> counts;
  for (const auto& text : train.texts)
    for (const auto& word : words_of(text)) ++counts[word];
  std::vector<std::pair<int64_t, std::string>> by_count;
  for (const auto& [word, count] : counts) by_count.emplace_back(-count, word);
  std::sort(by_count.begin(), by_count.end());
  for (size_t i = 0; i < by_count.size() && std::ssize(vocabulary_) + 2 < o.vocabulary; ++i)
    vocabulary_.emplace(by_count[i].second, static_cast<int64_t>(i) + 2);
  ids_ = ids_of(train), labels_ = labels_of(train);
  head_ = torch::zeros({2, o.width}).requires_grad_();
  bias_ = torch::zeros({2}).requires_grad_();
}

torch::Tensor SentenceClassifier::ids_of(const data::LabelledTexts& texts) const {
  auto ids = torch::zeros({std::ssize(texts.texts), options.words}, torch::kLong);
  auto* row = ids.data_ptr<int64_t>();
  for (const auto& text : texts.texts) {
    const auto words = words_of(text);
    for (int64_t i = 0; i < std::min(options.words, std::ssize(words)); ++i) {
      const auto found = vocabulary_.find(words[static_cast<size_t>(i)]);
      row[i] = found == vocabulary_.end() ? kUnknown : found->second;
    }
    row += options.words;
  }
  return ids;
}

torch::Tensor SentenceClassifier::logits(const torch::Tensor& ids, lm::Hooks* hooks) {
  lm::Pass pass;
  pass.hooks = hooks, pass.stop_at_layer = options.layers;
  const auto residual = model->forward(ids, pass);
  const auto there = (ids != 0).unsqueeze(-1).to(residual.scalar_type());
  const auto mean = (residual * there).sum(1) / there.sum(1).clamp_min(1);
  return torch::linear(torch::layer_norm(mean, {options.width}), head_, bias_);
}

void SentenceClassifier::fit() {
  const auto& o = options;
  auto parameters = model->parameters();
  parameters.push_back(head_), parameters.push_back(bias_);
  torch::optim::AdamW adam(
      parameters,
      torch::optim::AdamWOptions(o.learning_rate).betas({0.9, 0.95}).weight_decay(o.weight_decay));
  torch::Tensor order, loss;
  int64_t at = 0;
  const int64_t batch = std::min(o.batch, ids_.size(0));
  for (int64_t step = 0; step < o.steps; ++step, at += batch) {
    if (!order.defined() || at + batch > order.numel())
      order = torch::randperm(ids_.size(0), torch::kLong), at = 0;
    const auto rows = order.slice(0, at, at + batch);
    const double done = static_cast<double>(step) / static_cast<double>(o.steps);
    for (auto& group : adam.param_groups())
      static_cast<torch::optim::AdamWOptions&>(group.options())
          .lr(o.learning_rate * (0.55 + 0.45 * std::cos(std::numbers::pi * done)));
    adam.zero_grad();
    loss = ops::cross_entropy(logits(ids_.index_select(0, rows), nullptr),
                              labels_.index_select(0, rows));
    loss.backward();
    torch::nn::utils::clip_grad_norm_(parameters, 1.0);
    adam.step();
  }
  require(!loss.defined() || std::isfinite(loss.item<double>()),
          "sentence classifier: the loss is no number");
}

double SentenceClassifier::accuracy(const data::LabelledTexts& texts, lm::Hooks* hooks) {
  const torch::NoGradGuard no_grad;
  const auto ids = ids_of(texts), labels = labels_of(texts);
  double right = 0;
  for (int64_t at = 0; at < ids.size(0); at += 256) {
    const auto found = logits(ids.slice(0, at, at + 256), hooks).argmax(-1);
    right += (found == labels.slice(0, at, at + 256)).sum().item<double>();
  }
  return right / static_cast<double>(ids.size(0));
}

std::vector<int32_t> SentenceClassifier::running_text() const {
  const auto kept = ids_.masked_select(ids_ != 0);
  std::vector<int32_t> out;
  for (int64_t i = 0; i < kept.numel(); ++i)
    out.push_back(static_cast<int32_t>(kept.data_ptr<int64_t>()[i]));
  return out;
}

}  // namespace cajal::train
