#include "cajal/train/translation.h"

#include <torch/nn/functional/loss.h>
#include <torch/nn/utils/clip_grad.h>
#include <torch/optim/adam.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "cajal/core/error.h"
#include "cajal/math/translation.h"

namespace cajal::train {
namespace {

using Pairs = std::vector<const data::SentencePair*>;

// All pairs by length, so that neighbours fill a batch with little padding.
Pairs by_length(const std::vector<data::SentencePair>& pairs) {
  Pairs out;
  for (const auto& pair : pairs) out.push_back(&pair);
  std::stable_sort(out.begin(), out.end(), [](const auto* a, const auto* b) {
    return std::pair(a->target.size(), a->source.size()) <
           std::pair(b->target.size(), b->source.size());
  });
  return out;
}

double rate_at(const TranslationOptions& o, int64_t step) {
  const double t = static_cast<double>(step + 1),
               w = static_cast<double>(std::max<int64_t>(1, o.warmup));
  return o.learning_rate * std::min(t / w, std::sqrt(w / t));
}

// Shares of target words that the model says when it has read the true ones before them.
void count_words(seq2seq::Seq2Seq& model, const Pairs& pairs, const TranslationBatch& batch,
                 double (&right)[3], double (&all)[3]) {
  const auto said = model->forward(batch.source, batch.input).argmax(-1).cpu();
  for (size_t b = 0; b < pairs.size(); ++b)
    for (size_t i = 0; i < pairs[b]->target.size(); ++i) {
      const auto kind = static_cast<size_t>(pairs[b]->asks[i]);
      const auto row = static_cast<int64_t>(b), word = static_cast<int64_t>(i);
      ++all[kind], right[kind] += said[row][word].item<int64_t>() == pairs[b]->target[i];
    }
}

}  // namespace

TranslationBatch batch_of(const Pairs& pairs, torch::Device device) {
  size_t source = 0, target = 0;
  for (const auto* pair : pairs) {
    source = std::max(source, pair->source.size()), target = std::max(target, pair->target.size());
  }
  const auto zeros = [&](size_t words) {
    return torch::zeros({std::ssize(pairs), static_cast<int64_t>(words)}, torch::kLong);
  };
  TranslationBatch out{zeros(source), zeros(target + 1), zeros(target + 1)};
  for (size_t b = 0; b < pairs.size(); ++b) {
    const auto& pair = *pairs[b];
    std::copy(pair.source.begin(), pair.source.end(), out.source.data_ptr<int64_t>() + b * source);
    auto* input = out.input.data_ptr<int64_t>() + b * (target + 1);
    auto* said = out.target.data_ptr<int64_t>() + b * (target + 1);
    input[0] = data::kBegin;
    std::copy(pair.target.begin(), pair.target.end(), input + 1);
    std::copy(pair.target.begin(), pair.target.end(), said);
    said[pair.target.size()] = data::kEnd;
  }
  return {out.source.to(device), out.input.to(device), out.target.to(device)};
}

void fit(seq2seq::Seq2Seq& model, const std::vector<data::SentencePair>& pairs,
         const TranslationOptions& o, torch::Device device) {
  require(o.steps > 0 && o.batch > 0 && !pairs.empty(),
          "translation: steps, batch and sentences must be positive");
  model->to(device);
  model->train();
  const auto sorted = by_length(pairs);
  const auto batch = std::min<int64_t>(o.batch, std::ssize(sorted));
  torch::optim::Adam adam(model->parameters(),
                          torch::optim::AdamOptions(o.learning_rate).betas({0.9, 0.98}).eps(1e-9));
  const auto smooth =
      torch::nn::functional::CrossEntropyFuncOptions().ignore_index(0).label_smoothing(o.smoothing);
  torch::Tensor loss;
  for (int64_t step = 0; step < o.steps; ++step) {
    const auto begin =
        torch::randint(std::ssize(sorted) - batch + 1, {1}, torch::kLong).item<int64_t>();
    const auto it = sorted.begin() + begin;
    const auto b = batch_of(Pairs(it, it + batch), device);
    for (auto& group : adam.param_groups())
      static_cast<torch::optim::AdamOptions&>(group.options()).lr(rate_at(o, step));
    adam.zero_grad();
    const auto logits = model->forward(b.source, b.input);
    loss = torch::nn::functional::cross_entropy(logits.flatten(0, 1), b.target.flatten(), smooth);
    loss.backward();
    if (o.clip > 0) torch::nn::utils::clip_grad_norm_(model->parameters(), o.clip);
    adam.step();
  }
  require(std::isfinite(loss.item<double>()), "translation: the loss is no number");
  model->eval();
}

TranslationScore score(seq2seq::Seq2Seq& model, const std::vector<data::SentencePair>& pairs,
                       const std::vector<std::string>& words, torch::Device device) {
  const torch::NoGradGuard no_grad;
  model->eval();
  const auto sorted = by_length(pairs);
  std::vector<std::vector<int32_t>> outputs, references;
  double right[3] = {}, all[3] = {};
  for (size_t begin = 0; begin < sorted.size(); begin += 100) {
    const Pairs part(
        sorted.begin() + static_cast<std::ptrdiff_t>(begin),
        sorted.begin() + static_cast<std::ptrdiff_t>(std::min(begin + 100, sorted.size())));
    const auto batch = batch_of(part, device);
    for (auto& output : seq2seq::greedy(model, batch.source, batch.input.size(1) + 4))
      outputs.push_back(std::move(output));
    for (const auto* pair : part) references.push_back(pair->target);
    count_words(model, part, batch, right, all);
  }
  const auto text = [&](const std::vector<std::vector<int32_t>>& sentences) {
    std::vector<std::string> out;
    for (const auto& sentence : sentences) {
      out.emplace_back();
      for (const int32_t id : sentence) out.back() += words.at(static_cast<size_t>(id)) + " ";
    }
    return out;
  };
  TranslationScore s;
  s.bleu = math::bleu(outputs, references), s.chrf = math::chrf(text(outputs), text(references));
  for (size_t i = 0; i < outputs.size(); ++i) s.exact += outputs[i] == references[i];
  s.exact *= 100 / static_cast<double>(outputs.size());
  const auto share = [&](data::Asks kind) {
    const auto k = static_cast<size_t>(kind);
    return 100 * right[k] / std::max(1.0, all[k]);
  };
  s.agreement = share(data::Asks::agreement), s.ambiguity = share(data::Asks::ambiguity);
  s.token = 100 * (right[0] + right[1] + right[2]) / (all[0] + all[1] + all[2]);
  return s;
}

}  // namespace cajal::train
