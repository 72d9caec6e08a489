#include "cajal/surgery/predictor.h"

#include <ATen/CPUGeneratorImpl.h>
#include <torch/optim.h>

#include <algorithm>

#include "cajal/core/error.h"
#include "cajal/surgery/inputs.h"
#include "cajal/surgery/split.h"

namespace cajal::surgery {
namespace {

torch::Tensor logits(const Predictor& p, const torch::Tensor& x) {
  return torch::matmul(torch::matmul(x, p.down.t()), p.up.t()) + p.shift;
}

void judge(Predictor& p, const torch::Tensor& x, const torch::Tensor& fires, double threshold) {
  const auto guess = p.fires(x, threshold);
  const double firing = fires.sum().item<double>();
  p.density = guess.to(torch::kFloat).mean().item<double>();
  p.recall = firing > 0 ? (guess & fires).sum().item<double>() / firing : 1;
}

Predictor train(const torch::Tensor& x, const torch::Tensor& fires, const PredictorOptions& o,
                at::Generator generator) {
  const auto width = x.size(1), neurons = fires.size(1);
  const auto train_rows = x.size(0) - std::max<int64_t>(1, x.size(0) / 10);
  const auto random = [&](int64_t rows, int64_t columns) {
    return (torch::randn({rows, columns}, generator) / std::sqrt(static_cast<double>(columns)))
        .requires_grad_();
  };
  Predictor p{random(o.rank, width), random(neurons, o.rank), {}, 0, 0};
  const double share = fires.slice(0, 0, train_rows).to(torch::kFloat).mean().item<double>();
  p.shift = torch::full({neurons}, std::log((share + 1e-4) / (1 - share + 1e-4))).requires_grad_();
  torch::optim::AdamW optimizer({p.down, p.up, p.shift}, torch::optim::AdamWOptions(o.rate));
  const double weight = share + 0.005;  // of silent neurons; firing ones count fully
  for (int64_t epoch = 0; epoch < o.epochs; ++epoch) {
    const auto order = torch::randperm(train_rows, generator, torch::kLong);
    for (int64_t at = 0; at < train_rows; at += o.batch) {
      const auto rows = order.slice(0, at, std::min(train_rows, at + o.batch));
      const auto target = fires.index_select(0, rows).to(torch::kFloat);
      const auto loss = torch::binary_cross_entropy_with_logits(
          logits(p, x.index_select(0, rows)), target, target * (1 - weight) + weight);
      optimizer.zero_grad();
      loss.backward();
      optimizer.step();
    }
    torch::NoGradGuard no_grad;
    judge(p, x.slice(0, train_rows), fires.slice(0, train_rows), o.threshold);
    if (p.recall >= o.stop_recall) break;
  }
  p.down = p.down.detach(), p.up = p.up.detach(), p.shift = p.shift.detach();
  return p;
}

}  // namespace

torch::Tensor Predictor::fires(const torch::Tensor& x, double threshold) const {
  return logits(*this, x) > std::log(threshold / (1 - threshold));
}

int64_t Predictor::bytes(int64_t bytes_a_value) const {
  return (down.numel() + up.numel() + shift.numel()) * bytes_a_value;
}

Predictor at_recall(const Predictor& predictor, const torch::Tensor& x, const torch::Tensor& fires,
                    double recall) {
  require(recall > 0 && recall <= 1, "predictor: recall {}, expected above 0 and up to 1", recall);
  const torch::NoGradGuard no_grad;
  Predictor out = predictor;
  auto found = logits(predictor, x).masked_select(fires).contiguous();
  if (found.numel() > 0) {
    auto* const data = found.data_ptr<float>();
    const auto missed = std::min(
        found.numel() - 1, static_cast<int64_t>((1 - recall) * static_cast<double>(found.numel())));
    std::nth_element(data, data + missed, data + found.numel());
    out.shift = predictor.shift - (data[missed] - 1e-4f);
  }
  judge(out, x, fires, 0.5);
  return out;
}

bool falls_silent(Activation law) {
  // Not far below 0, where the smooth laws are 0 too once rounded.
  return activate(law, torch::full({1}, -3.f)).item<float>() == 0;
}

std::vector<Firing> firing(lm::Transformer& model, std::span<const int32_t> ids, int64_t tokens) {
  const auto& config = model->config;
  require(falls_silent(config.law),
          "the law of this model, {}, is never exactly 0: no neuron falls silent",
          to_name(config.law));
  const torch::NoGradGuard no_grad;
  std::vector<Firing> out(model->blocks.size());
  visit_inputs(model, ids, tokens, [&](size_t l, const torch::Tensor& x) { out[l].x = x.clone(); });
  for (size_t l = 0; l < out.size(); ++l) {
    const auto rows = neuron_rows(model->blocks[l].ffn);
    auto pre = torch::matmul(out[l].x, (config.gated ? rows.gate : rows.key).t());
    const auto& bias = config.gated ? rows.gate_bias : rows.key_bias;
    if (bias.defined()) pre = pre + bias;
    out[l].fires = activate(config.law, pre) != 0;
  }
  return out;
}

std::vector<Predictor> train_predictors(lm::Transformer& model, std::span<const int32_t> ids,
                                        const PredictorOptions& options) {
  require(options.rank > 0 && options.batch > 0 && options.threshold > 0 && options.threshold < 1,
          "predictor: rank {}, batch {} and threshold {} must be positive (threshold: below 1)",
          options.rank, options.batch, options.threshold);
  auto generator = at::detail::createCPUGenerator(options.seed);
  std::vector<Predictor> out;
  for (auto& layer : firing(model, ids, options.tokens)) {
    const torch::AutoGradMode gradients(true);
    out.push_back(train(layer.x, layer.fires, options, generator));
    layer = {};
  }
  return out;
}

double threshold_for(lm::Transformer& model, const std::vector<Predictor>& predictors,
                     std::span<const int32_t> ids, double share, int64_t tokens) {
  require(share > 0 && share < 1, "predictor: share {}, expected above 0 and below 1", share);
  const torch::NoGradGuard no_grad;
  std::vector<torch::Tensor> all;
  visit_inputs(model, ids, tokens, [&](size_t l, const torch::Tensor& x) {
    all.push_back(logits(predictors.at(l), x).flatten());
  });
  const auto scores = torch::cat(all);
  const auto rank = static_cast<int64_t>((1 - share) * static_cast<double>(scores.numel()));
  const double logit = std::get<0>(scores.kthvalue(std::max<int64_t>(1, rank))).item<double>();
  return std::clamp(1 / (1 + std::exp(-logit)), 1e-6, 1 - 1e-6);
}

std::vector<torch::Tensor> hot_neurons(const atlas::Census& census, double share) {
  std::vector<double> rates;
  for (const auto& layer : census.layers)
    for (int64_t i = 0; i < layer.neurons; ++i) rates.push_back(layer.firing_share(i));
  const auto count =
      std::min(rates.size() - 1, static_cast<size_t>(share * static_cast<double>(rates.size())));
  auto sorted = rates;
  std::nth_element(sorted.begin(), sorted.begin() + static_cast<int64_t>(count), sorted.end(),
                   std::greater<>());
  std::vector<torch::Tensor> out;
  for (const auto& layer : census.layers) {
    auto& hot = out.emplace_back(torch::zeros({layer.neurons}, torch::kBool));
    for (int64_t i = 0; i < layer.neurons; ++i)
      hot.data_ptr<bool>()[i] = count > 0 && layer.firing_share(i) > sorted[count];
  }
  return out;
}

void attach(lm::Hooks& hooks, const lm::Transformer& model,
            const std::vector<Predictor>& predictors, const std::vector<torch::Tensor>& always,
            double threshold, PredictorCount& count) {
  require(predictors.size() == model->blocks.size(), "{} predictors for {} layers",
          predictors.size(), model->blocks.size());
  for (size_t l = 0; l < predictors.size(); ++l) {
    const FfnInput input(model, l);
    const auto guess = std::make_shared<torch::Tensor>();
    hooks.add(input.point(), [=](std::string_view, const torch::Tensor& value) {
      *guess = predictors[l].fires(input.from_point(value), threshold);
      if (!always.empty()) *guess = guess->logical_or(always[l]);
      return torch::Tensor();
    });
    hooks.add(fmt::format("blocks.{}.mlp.hook_post", l),
              [&count, guess](std::string_view, const torch::Tensor& value) {
                const auto fires = value > 0;
                count.neurons += value.numel();
                count.guessed += guess->sum().item<int64_t>();
                count.firing += fires.sum().item<int64_t>();
                count.found += (fires & *guess).sum().item<int64_t>();
                return value * *guess;
              });
  }
}

}  // namespace cajal::surgery
