#include "cajal/train/small_language.h"

#include <torch/nn/utils/clip_grad.h>
#include <torch/optim/adamw.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "cajal/core/error.h"
#include "cajal/data/text.h"
#include "cajal/layers/ops.h"
#include "cajal/models/lm/checkpoint.h"

namespace cajal::train {
namespace {

lm::Config config_of(const SmallLanguageOptions& o) {
  const Json json = {{"model_type", "gpt2"},        {"architectures", {"GPT2LMHeadModel"}},
                     {"n_embd", o.width},           {"n_layer", o.layers},
                     {"n_head", o.heads},           {"n_inner", o.neurons},
                     {"n_positions", o.context},    {"vocab_size", 256},
                     {"activation_function", o.law}};
  return lm::config_from_json(json, "small language model");
}

}  // namespace

SmallLanguageModel::SmallLanguageModel(const SmallLanguageOptions& o, uint64_t seed,
                                       torch::Device device)
    : options(o),
      model(lm::initialise(config_of(o), seed)),
      device_(device),
      ids_(std::make_shared<torch::Tensor>()) {
  model->to(device);
  parameters_ = model->parameters();
}

void SmallLanguageModel::replace(int64_t layer, const std::shared_ptr<torch::nn::Module>& module,
                                 Network network) {
  auto& ffn = model->blocks.at(static_cast<size_t>(layer)).ffn;
  auto& group = ffn.groups.at(0);
  for (const auto& old : {group.key.stored(), group.value.stored(), group.key_bias, ffn.value_bias})
    std::erase_if(parameters_,
                  [&](const torch::Tensor& p) { return old.defined() && p.is_same(old); });
  module->to(device_);
  for (const auto& parameter : module->parameters()) parameters_.push_back(parameter);
  modules_.push_back(module);
  ffn.instead = [network = std::move(network), ids = ids_](const torch::Tensor& x) {
    return network(x, *ids);
  };
}

void SmallLanguageModel::add_loss(const torch::Tensor& loss) {
  if (loss.defined()) extra_ = extra_.defined() ? extra_ + loss : loss;
}

torch::Tensor SmallLanguageModel::loss_of(const torch::Tensor& window) {
  *ids_ = window.narrow(1, 0, window.size(1) - 1);
  const auto logits = model->forward(*ids_);
  return ops::cross_entropy(logits.flatten(0, 1),
                            window.narrow(1, 1, window.size(1) - 1).flatten());
}

void SmallLanguageModel::fit(const torch::Tensor& bytes) {
  const auto& o = options;
  require(bytes.numel() > o.context + 1,
          "small language model: {} bytes of text, expected more than {}", bytes.numel(),
          o.context + 1);
  std::vector<torch::Tensor> decayed, others;
  for (const auto& p : parameters_) (p.dim() > 1 ? decayed : others).push_back(p);
  const auto group = [&](double decay) {
    return std::make_unique<torch::optim::AdamWOptions>(
        torch::optim::AdamWOptions(o.learning_rate).betas({0.9, o.beta2}).weight_decay(decay));
  };
  torch::optim::AdamW adam({torch::optim::OptimizerParamGroup(decayed, group(o.weight_decay)),
                            torch::optim::OptimizerParamGroup(others, group(0))},
                           torch::optim::AdamWOptions(o.learning_rate).betas({0.9, o.beta2}));
  for (const auto& module : modules_) module->train();
  const auto window = torch::arange(o.context + 1);
  torch::Tensor loss;
  for (int64_t step = 0; step < o.steps; ++step) {
    const auto starts = torch::randint(bytes.numel() - o.context - 1, {o.batch, 1}, torch::kLong);
    const auto ids = bytes.index({starts + window}).to(torch::kLong).to(device_);
    const double done = static_cast<double>(step) / static_cast<double>(o.steps);
    const double rate = o.learning_rate * (0.55 + 0.45 * std::cos(std::numbers::pi * done));
    for (auto& g : adam.param_groups())
      static_cast<torch::optim::AdamWOptions&>(g.options()).lr(rate);
    adam.zero_grad();
    extra_.reset();
    loss = loss_of(ids);
    (extra_.defined() ? loss + extra_ : loss).backward();
    torch::nn::utils::clip_grad_norm_(parameters_, 1.0);
    adam.step();
  }
  require(std::isfinite(loss.item<double>()), "small language model: the loss is no number");
  extra_.reset();
  for (const auto& module : modules_) module->eval();
}

double SmallLanguageModel::bits_per_byte(const torch::Tensor& bytes) {
  const torch::NoGradGuard no_grad;
  const int64_t length = options.context + 1, windows = bytes.numel() / length;
  require(windows > 0, "small language model: {} bytes to judge on, expected {}", bytes.numel(),
          length);
  const auto all = bytes.narrow(0, 0, windows * length).view({windows, length}).to(torch::kLong);
  double nats = 0;
  for (int64_t begin = 0; begin < windows; begin += 32) {
    const auto part = all.slice(0, begin, begin + 32).to(device_);
    nats += loss_of(part).item<double>() * static_cast<double>(part.size(0));
  }
  extra_.reset();
  return nats / static_cast<double>(windows) / std::numbers::ln2;
}

int64_t SmallLanguageModel::parameter_count() const {
  int64_t sum = 0;
  for (const auto& parameter : parameters_) sum += parameter.numel();
  return sum;
}

int64_t SmallLanguageModel::base_multiply_adds() const {
  const int64_t d = options.width;
  int64_t sum = 256 * d;  // unembedding
  for (const auto& block : model->blocks) {
    sum += 4 * d * d + 2 * d * (options.context + 1) / 2;  // projections; scores of a mean position
    if (!block.ffn.instead) sum += 2 * d * options.neurons;
  }
  return sum;
}

torch::Tensor text_bytes(const std::string& path_or_name, int64_t limit) {
  const auto text = data::read_text(path_or_name);
  const auto size = std::min<int64_t>(limit, std::ssize(text));
  return torch::from_blob(const_cast<char*>(text.data()), {size}, torch::kByte).clone();
}

}  // namespace cajal::train
