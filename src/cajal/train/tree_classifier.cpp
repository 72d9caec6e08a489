#include "cajal/train/tree_classifier.h"

#include <torch/nn/functional/loss.h>

#include <algorithm>

namespace cajal::train {
namespace {

torch::Tensor cross_entropy(const torch::Tensor& logits, const torch::Tensor& y) {
  return torch::nn::functional::cross_entropy(logits, y);
}

double ramp(const TreePhase& phase, int64_t epoch) {
  const double half = static_cast<double>(phase.epochs) / 2;
  const double done = std::min(1.0, static_cast<double>(epoch) / std::max(1.0, half));
  return phase.entropy_from + (phase.entropy_to - phase.entropy_from) * done;
}

}  // namespace

TreeScore fit_tree(FastFeedForward& layer, const ClassifierData& data,
                   const std::vector<TreePhase>& phases, ClassifierOptions options) {
  const auto infer = [&](const torch::Tensor& x) { return layer->infer(x); };
  TreeScore score;
  for (const auto& phase : phases) {
    Classifier classifier{layer->parameters(), {}, infer};
    classifier.loss = [&](const torch::Tensor& x, const torch::Tensor& y, int64_t epoch) {
      const auto traced = layer->trace(x, phase.form);
      auto loss = cross_entropy(traced.y, y);
      if (const double h = ramp(phase, epoch); h > 0) loss = loss + h * traced.entropy();
      return phase.balance > 0 ? loss + phase.balance * traced.balance() : loss;
    };
    options.epochs = phase.epochs, options.keep_from = phase.keep_from;
    layer->train();
    score.valid = fit(classifier, data, options).valid;
  }
  layer->eval();
  const torch::NoGradGuard no_grad;
  score.train = accuracy(infer, data.train), score.test = accuracy(infer, data.test);
  const auto traced = layer->trace(data.test.x);
  score.test_soft = traced.y.argmax(1).eq(data.test.y).to(torch::kDouble).mean().item<double>();
  score.entropy = traced.entropy().item<double>();
  score.use = balancing::use_of(balancing::count(layer->leaf(data.train.x), layer->leaves()));
  if (layer->options.master > 0) score.blend = torch::sigmoid(layer->k).item<double>();
  return score;
}

TreeScore fit_experts(SparseMemory& layer, const ClassifierData& data,
                      const ClassifierOptions& options) {
  const auto infer = [&](const torch::Tensor& x) {
    layer->eval();
    auto y = std::get<0>(layer->forward(x));
    layer->train();
    return y;
  };
  Classifier classifier{layer->parameters(), {}, infer};
  classifier.loss = [&](const torch::Tensor& x, const torch::Tensor& y, int64_t) {
    const auto [logits, loss] = layer->forward(x);
    return loss.defined() ? cross_entropy(logits, y) + loss : cross_entropy(logits, y);
  };
  layer->train();
  TreeScore score;
  score.valid = fit(classifier, data, options).valid;
  const torch::NoGradGuard no_grad;
  score.train = accuracy(infer, data.train), score.test = accuracy(infer, data.test);
  score.test_soft = score.test;
  layer->eval();
  score.use =
      balancing::use_of(balancing::count(layer->select(data.train.x).blocks, layer->blocks()));
  return score;
}

}  // namespace cajal::train
