#include "cajal/train/captioner.h"

#include <torch/optim/adamw.h>

#include <cmath>
#include <functional>
#include <limits>

#include "cajal/core/progress.h"
#include "cajal/math/phrases.h"

namespace cajal::train {
namespace {

using caption::Words;
using torch::Tensor;

std::vector<int64_t> shuffled(int64_t count) {
  const auto order = torch::randperm(count, torch::kLong);
  return {order.data_ptr<int64_t>(), order.data_ptr<int64_t>() + count};
}

Tensor loss_of(const Tensor& odds, const std::vector<Words>& phrases) {
  const auto wanted = caption::with_stop(phrases).to(odds.device());
  return torch::nll_loss(odds.flatten(0, 1), wanted.flatten(), {}, at::Reduction::Mean,
                         caption::kPad);
}

/// Epochs of `samples` in batches until `judge` (higher is better) has not improved.
CaptionerRun loop(torch::nn::Module& module, int64_t samples, int64_t batch,
                  const CaptionerOptions& o, const char* name,
                  const std::function<Tensor(const std::vector<int64_t>&)>& loss,
                  const std::function<double()>& judge) {
  require(o.epochs > 0 && batch > 0 && o.rate > 0 && o.patience > 0 && o.evaluate_every > 0,
          "{}: epochs, batch, rate, patience and evaluate_every must be positive", name);
  const auto parameters = module.parameters();
  torch::optim::AdamW optimiser(parameters, torch::optim::AdamWOptions(o.rate));
  std::vector<Tensor> kept;
  CaptionerRun out{0, -std::numeric_limits<double>::infinity()};
  int64_t worse = 0;
  Progress progress(name, o.epochs, "epochs");
  for (int64_t epoch = 0; epoch < o.epochs && worse < o.patience; ++epoch) {
    module.train();
    const auto order = shuffled(samples);
    Tensor last;
    for (int64_t begin = 0; begin < samples; begin += batch) {
      last = loss({order.begin() + begin, order.begin() + std::min(samples, begin + batch)});
      optimiser.zero_grad();
      last.backward();
      optimiser.step();
    }
    const double value = last.item<double>();
    require(std::isfinite(value), "{} diverged: the loss is {} in epoch {}", name, value,
            epoch + 1);
    progress.add(1);
    out.epochs = epoch + 1;
    if (out.epochs % o.evaluate_every != 0 && out.epochs != o.epochs) continue;
    module.eval();
    const torch::NoGradGuard no_grad;
    const double score = judge();
    if (score > out.best || kept.empty()) {
      out.best = score, worse = 0, kept.clear();
      for (const auto& p : parameters) kept.push_back(p.detach().clone());
    } else {
      ++worse;
    }
  }
  const torch::NoGradGuard no_grad;
  for (size_t i = 0; i < kept.size(); ++i) parameters[i].detach().copy_(kept[i]);
  module.eval();
  return out;
}

}  // namespace

CaptionerRun fit_describer(ShowAttendTell& describer, const Annotated& data,
                           const CaptionerOptions& o) {
  require(data.features.dim() == 3 && data.features.size(0) == std::ssize(data.phrases) &&
              data.features.size(0) >= 2,
          "describer: features are {} for {} units, expected [units, regions, features]",
          shape_text(data.features.sizes()), data.phrases.size());
  const auto order = shuffled(data.features.size(0));
  const auto held =
      std::max<int64_t>(1, std::llround(o.hold_out * static_cast<double>(order.size())));
  require(held < std::ssize(order), "describer: hold_out is {}, nothing is left to train on",
          o.hold_out);
  const std::vector<int64_t> valid(order.begin(), order.begin() + held);
  std::vector<std::pair<int64_t, const Words*>> samples;
  for (auto it = order.begin() + held; it != order.end(); ++it)
    for (const auto& phrase : data.phrases[static_cast<size_t>(*it)])
      samples.emplace_back(*it, &phrase);
  require(!samples.empty(), "describer: no phrases");
  const auto valid_features = data.features.index_select(0, torch::tensor(valid, torch::kLong));
  std::vector<std::vector<Words>> references;
  for (const auto unit : valid) references.push_back(data.phrases[static_cast<size_t>(unit)]);
  LstmLanguageModel unused(LstmLanguageModelOptions{
      .vocabulary = describer->options.vocabulary, .embedding = 1, .hidden = 1, .layers = 1});
  return loop(
      *describer, std::ssize(samples), o.batch, o, "describer",
      [&](const std::vector<int64_t>& rows) {
        std::vector<int64_t> units;
        std::vector<Words> phrases;
        for (const auto row : rows) {
          units.push_back(samples[static_cast<size_t>(row)].first);
          phrases.push_back(*samples[static_cast<size_t>(row)].second);
        }
        const auto x = data.features.index_select(0, torch::tensor(units, torch::kLong));
        const auto [odds, attention] =
            describer->forward(x, caption::with_start(phrases).to(x.device()));
        return loss_of(odds, phrases) + o.attention * (1 - attention.sum(1)).square().mean();
      },
      [&] {
        std::vector<Words> said;
        for (auto& d : caption::describe(describer, unused, valid_features,
                                         {.strategy = caption::Strategy::greedy}))
          said.push_back(std::move(d.words));
        return math::bleu(said, references, 4);
      });
}

CaptionerRun fit_language(LstmLanguageModel& language, const std::vector<Words>& phrases,
                          const CaptionerOptions& o) {
  require(phrases.size() >= 2, "language model: {} phrases", phrases.size());
  const auto order = shuffled(std::ssize(phrases));
  const auto held = std::max<int64_t>(1, static_cast<int64_t>(phrases.size()) / 10);
  const auto chosen = [&](auto begin, auto end) {
    std::vector<Words> out;
    for (auto it = begin; it != end; ++it) out.push_back(phrases[static_cast<size_t>(*it)]);
    return out;
  };
  const auto valid = chosen(order.begin(), order.begin() + held);
  const auto train = chosen(order.begin() + held, order.end());
  const auto device = language->parameters().front().device();
  const auto loss = [&](const std::vector<Words>& some) {
    return loss_of(language->forward(caption::with_start(some).to(device)), some);
  };
  auto run = loop(
      *language, std::ssize(train), 2 * o.batch, o, "language model",
      [&](const std::vector<int64_t>& rows) {
        std::vector<Words> some;
        for (const auto row : rows) some.push_back(train[static_cast<size_t>(row)]);
        return loss(some);
      },
      [&] { return -loss(valid).item<double>(); });
  run.best = -run.best;
  return run;
}

}  // namespace cajal::train
