#include "cajal/train/classifier.h"

#include <torch/optim.h>

#include <cmath>
#include <memory>

#include "cajal/core/error.h"
#include "cajal/data/image_set.h"

namespace cajal::train {
namespace {

Labelled flat(const data::LabelledImages& images) {
  const auto count = images.images.shape.at(0);
  const auto pixels = torch::from_blob(const_cast<std::byte*>(images.images.bytes.data()),
                                       {std::ssize(images.images.bytes)}, torch::kByte)
                          .view({count, -1});
  const auto labels =
      torch::from_blob(const_cast<uint8_t*>(images.labels.data()), {count}, torch::kByte);
  return {(pixels.to(torch::kFloat) / 255 - 0.5) / 0.5, labels.to(torch::kLong)};
}

Labelled generated(data::ObliqueTreeOptions options, int64_t count, uint64_t sample) {
  options.count = count, options.sample = sample;
  auto task = data::oblique_tree(options);
  const auto x = torch::from_blob(task.x.data(), {count, options.features}).clone();
  return {x, torch::from_blob(task.labels.data(), {count}, torch::kByte).to(torch::kLong)};
}

std::unique_ptr<torch::optim::AdamW> adamw(const std::vector<torch::Tensor>& parameters,
                                           double rate, double decay) {
  return std::make_unique<torch::optim::AdamW>(
      parameters, torch::optim::AdamWOptions(rate).weight_decay(decay));
}

}  // namespace

ClassifierData image_classes(std::string_view name, uint64_t seed) {
  const auto set = data::read_image_set(name, seed);
  const auto all = flat(set.train);
  const int64_t kept = all.size() - all.size() / 8;
  return {set.name, all.slice(0, kept), all.slice(kept, all.size()), flat(set.test)};
}

ClassifierData tree_classes(const data::ObliqueTreeOptions& o) {
  return {o.regions == data::Regions::balanced ? "oblique tree" : "oblique tree, halving regions",
          generated(o, o.count, 3 * o.sample + 1), generated(o, o.count / 4, 3 * o.sample + 2),
          generated(o, o.count / 2, 3 * o.sample + 3)};
}

double accuracy(const std::function<torch::Tensor(const torch::Tensor&)>& logits,
                const Labelled& data) {
  const torch::NoGradGuard no_grad;
  return logits(data.x).argmax(1).eq(data.y).to(torch::kDouble).mean().item<double>();
}

ClassifierRun fit(const Classifier& classifier, const ClassifierData& data,
                  const ClassifierOptions& o) {
  require(o.epochs > 0 && o.batch > 0,
          "classifier: epochs and batch must be positive, got {} and {}", o.epochs, o.batch);
  auto steps = adamw(classifier.parameters, o.learning_rate, o.weight_decay);
  ClassifierRun best{-1, 0};
  std::vector<torch::Tensor> kept;
  bool raised = false;
  int64_t since_best = 0;
  for (int64_t epoch = 0; epoch < o.epochs; ++epoch) {
    const auto order = torch::randperm(data.train.size());
    torch::Tensor loss;
    for (int64_t begin = 0; begin < data.train.size(); begin += o.batch) {
      const auto rows = order.slice(0, begin, begin + o.batch);
      steps->zero_grad();
      loss = classifier.loss(data.train.x.index_select(0, rows), data.train.y.index_select(0, rows),
                             epoch);
      loss.backward();
      steps->step();
    }
    require(std::isfinite(loss.item<double>()), "classifier: the loss of epoch {} is no number",
            epoch + 1);
    const double valid = accuracy(classifier.logits, data.valid);
    const bool may_keep =
        static_cast<double>(epoch + 1) > o.keep_from * static_cast<double>(o.epochs);
    ++since_best;
    if (may_keep && valid > best.valid) {
      best = {valid, epoch + 1};
      since_best = 0;
      kept.clear();
      for (const auto& parameter : classifier.parameters)
        kept.push_back(parameter.detach().clone());
    }
    if (o.raised_rate <= 0) continue;
    const bool raise = !raised && since_best > o.patience && best.valid < o.raise_below;
    const bool settle = raised && since_best == 0;
    if (!raise && !settle) continue;
    raised = raise;
    steps = adamw(classifier.parameters, raised ? o.raised_rate : o.learning_rate, o.weight_decay);
  }
  const torch::NoGradGuard no_grad;
  for (size_t i = 0; i < kept.size(); ++i) classifier.parameters[i].copy_(kept[i]);
  return best;
}

}  // namespace cajal::train
