#include "cajal/surgery/share.h"

#include <torch/nn/utils/clip_grad.h>
#include <torch/optim/adamw.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "cajal/core/error.h"
#include "cajal/engine/names.h"
#include "cajal/math/assignment.h"
#include "cajal/math/similarity.h"
#include "cajal/models/lm/block.h"
#include "cajal/models/lm/checkpoint.h"
#include "cajal/models/lm/training.h"
#include "cajal/surgery/inputs.h"
#include "cajal/surgery/split.h"

namespace cajal::surgery {
namespace {

torch::Tensor unit_rows(const torch::Tensor& x) {
  return x / x.norm(2, 1, /*keepdim=*/true).clamp_min(1e-12);
}

// The neurons of `rows` in the order that fits those of `like` best.
NeuronRows in_order_of(const NeuronRows& like, const NeuronRows& rows) {
  auto fit = unit_rows(like.key).mm(unit_rows(rows.key).t()) +
             unit_rows(like.value).mm(unit_rows(rows.value).t());
  if (like.gate.defined()) fit = fit + unit_rows(like.gate).mm(unit_rows(rows.gate).t());
  if (like.key_bias.defined()) {
    const auto apart = like.key_bias.unsqueeze(1) - rows.key_bias.unsqueeze(0);
    const auto scale = apart.abs().mean().clamp_min(1e-12);
    fit = fit - 0.1 * apart.abs() / scale;
  }
  const auto cost = (-fit).to(torch::kFloat).contiguous();
  const auto n = cost.size(0);
  const auto order = math::assign({cost.data_ptr<float>(), static_cast<size_t>(n * n)}, n, n);
  return rows.pick(torch::tensor(order, torch::kLong));
}

// The FFN of plain groups with these rows, as the family of `model` stores it.
lm::FeedForward built(const lm::Transformer& model, const NeuronRows& rows,
                      const torch::Tensor& value_bias) {
  const bool conv1d = lm::name_maps(model->config.family)[0].conv1d;
  const auto matrix = [&](const torch::Tensor& r, bool neurons_are_outputs) {
    if (!r.defined()) return Matrix();
    const bool turn = conv1d == neurons_are_outputs;
    return Matrix::dense((turn ? r.t() : r).contiguous(), conv1d ? Major::input : Major::output);
  };
  lm::FeedForward ffn;
  ffn.groups.resize(1);
  auto& group = ffn.groups[0];
  group.key = matrix(rows.key, true), group.gate = matrix(rows.gate, true);
  group.value = matrix(rows.value, false);
  group.key_bias = rows.key_bias, group.gate_bias = rows.gate_bias;
  ffn.value_bias = value_bias;
  return ffn;
}

NeuronRows averaged(const std::vector<NeuronRows>& all) {
  const auto mean = [&](torch::Tensor NeuronRows::*part) {
    if (!(all[0].*part).defined()) return torch::Tensor();
    std::vector<torch::Tensor> parts;
    for (const auto& rows : all) parts.push_back(rows.*part);
    return torch::stack(parts).mean(0);
  };
  NeuronRows out;
  for (const auto part : {&NeuronRows::key, &NeuronRows::gate, &NeuronRows::value,
                          &NeuronRows::key_bias, &NeuronRows::gate_bias})
    out.*part = mean(part);
  return out;
}

void check(const lm::Transformer& model, const SharePlan& plan) {
  require(plan.uses.size() == model->blocks.size(), "the plan has {} layers, the model {}",
          plan.uses.size(), model->blocks.size());
}

}  // namespace

SharePlan SharePlan::own(int64_t layers) {
  SharePlan plan;
  for (int64_t layer = 0; layer < layers; ++layer) plan.uses.push_back(layer);
  return plan;
}

SharePlan SharePlan::none_above(int64_t layers, int64_t first) {
  auto plan = own(layers);
  for (int64_t layer = first; layer < layers; ++layer) plan.uses[static_cast<size_t>(layer)] = -1;
  return plan;
}

SharePlan SharePlan::parse(const std::string& text, int64_t layers) {
  SharePlan plan;
  std::map<std::string, int64_t> owner;
  for (size_t begin = 0; begin <= text.size();) {
    const auto end = std::min(text.find(',', begin), text.size());
    const auto entry = text.substr(begin, end - begin);
    const auto layer = std::ssize(plan.uses);
    if (entry == "own") {
      plan.uses.push_back(layer);
    } else if (entry == "none") {
      plan.uses.push_back(-1);
    } else {
      require(entry.starts_with("shared:") && entry.size() > 7,
              "plan: entry {} is '{}', expected own, none or shared:GROUP", layer, entry);
      plan.uses.push_back(owner.emplace(entry, layer).first->second);
    }
    begin = end + 1;
  }
  require(std::ssize(plan.uses) == layers, "plan: {} entries, the model has {} layers",
          plan.uses.size(), layers);
  return plan;
}

std::string SharePlan::text() const {
  std::string out;
  for (size_t layer = 0; layer < uses.size(); ++layer) {
    const auto owner = uses[layer];
    const bool alone = std::count(uses.begin(), uses.end(), owner) == 1;
    if (!out.empty()) out += ',';
    out += owner < 0 ? "none" : alone ? "own" : fmt::format("shared:{}", owner);
  }
  return out;
}

std::vector<std::vector<int64_t>> SharePlan::groups() const {
  std::vector<std::vector<int64_t>> out(uses.size());
  for (size_t layer = 0; layer < uses.size(); ++layer)
    if (uses[layer] >= 0)
      out[static_cast<size_t>(uses[layer])].push_back(static_cast<int64_t>(layer));
  return out;
}

std::vector<std::vector<double>> ffn_likeness(lm::Transformer& model, std::span<const int32_t> ids,
                                              int64_t tokens) {
  const torch::NoGradGuard no_grad;
  std::vector<torch::Tensor> written(model->blocks.size());
  visit_inputs(model, ids, tokens, [&](size_t layer, const torch::Tensor& x) {
    written[layer] =
        lm::feed_forward(model->config, model->blocks[layer].ffn, x, lm::Points(nullptr));
    require(torch::isfinite(written[layer]).all().item<bool>(),
            "share: the activations of layer {} are not finite", layer);
  });
  std::vector<std::vector<double>> out(written.size(), std::vector<double>(written.size(), 1));
  for (size_t i = 0; i < written.size(); ++i)
    for (size_t j = 0; j < i; ++j) out[i][j] = out[j][i] = math::linear_cka(written[i], written[j]);
  return out;
}

SharePlan propose(const std::vector<std::vector<double>>& likeness, int64_t networks) {
  const auto layers = std::ssize(likeness);
  require(networks >= 1 && networks <= layers, "share: {} networks for {} layers, expected 1 to {}",
          networks, layers, layers);
  std::vector<int64_t> begins;  // of runs of layers
  for (int64_t layer = 0; layer < layers; ++layer) begins.push_back(layer);
  while (std::ssize(begins) > networks) {
    size_t best = 1;
    double highest = -1;
    for (size_t run = 1; run < begins.size(); ++run) {
      const int64_t end = run + 1 < begins.size() ? begins[run + 1] : layers;
      double sum = 0;
      int64_t pairs = 0;
      for (int64_t i = begins[run - 1]; i < begins[run]; ++i)
        for (int64_t j = begins[run]; j < end; ++j, ++pairs)
          sum += likeness[static_cast<size_t>(i)][static_cast<size_t>(j)];
      if (sum / static_cast<double>(pairs) > highest)
        highest = sum / static_cast<double>(pairs), best = run;
    }
    begins.erase(begins.begin() + static_cast<std::ptrdiff_t>(best));
  }
  SharePlan plan;
  for (int64_t layer = 0; layer < layers; ++layer)
    plan.uses.push_back(*(std::upper_bound(begins.begin(), begins.end(), layer) - 1));
  return plan;
}

lm::Transformer shared(lm::Transformer& model, const SharePlan& plan, bool aligned) {
  check(model, plan);
  const torch::NoGradGuard no_grad;
  lm::Transformer out(model->config);
  out->embedding = model->embedding, out->blocks = model->blocks, out->output = model->output;
  out->file = model->file;
  for (const auto& [name, format] : model->layout.tensors)
    if (name.find("mlp") == std::string::npos && name.find(".fc") == std::string::npos)
      out->layout.tensors[name] = format;
  for (const auto& group : plan.groups()) {
    if (group.size() < 2) continue;
    std::vector<NeuronRows> all;
    std::vector<torch::Tensor> ends;
    for (const int64_t layer : group) {
      const auto& ffn = model->blocks[static_cast<size_t>(layer)].ffn;
      const auto rows = neuron_rows(ffn);
      all.push_back(aligned && !all.empty() ? in_order_of(all[0], rows) : rows);
      if (ffn.value_bias.defined()) ends.push_back(ffn.value_bias);
    }
    const auto one =
        built(out, averaged(all), ends.empty() ? torch::Tensor() : torch::stack(ends).mean(0));
    for (const int64_t layer : group) out->blocks[static_cast<size_t>(layer)].ffn = one;
  }
  for (size_t layer = 0; layer < plan.uses.size(); ++layer) {
    if (plan.uses[layer] >= 0) continue;
    const auto& ffn = model->blocks[layer].ffn;
    auto rows = neuron_rows(ffn);
    rows.value = torch::zeros_like(rows.value);
    out->blocks[layer].ffn = built(
        out, rows, ffn.value_bias.defined() ? torch::zeros_like(ffn.value_bias) : torch::Tensor());
  }
  // Layers without a network are stored as zeros of their own.
  out->layout.shared_ffn = plan.uses;
  bool any = false;
  for (size_t layer = 0; layer < plan.uses.size(); ++layer) {
    auto& owner = out->layout.shared_ffn[layer];
    if (owner < 0) owner = static_cast<int64_t>(layer);
    any = any || owner != static_cast<int64_t>(layer);
  }
  if (!any) out->layout.shared_ffn.clear();
  out->eval();
  return out;
}

void tune(lm::Transformer& model, const SharePlan& plan, std::span<const int32_t> ids,
          const TuneOptions& o) {
  check(model, plan);
  const auto context = std::min(o.context, model->config.context);
  require(o.steps > 0 && o.batch > 0 && std::ssize(ids) > context + 1,
          "tune: {} tokens, {} steps and batches of {}; expected more than {} tokens", ids.size(),
          o.steps, o.batch, context + 1);
  lm::make_trainable(model);
  std::vector<torch::Tensor> parameters = model->parameters();
  for (size_t layer = 0; layer < plan.uses.size(); ++layer)
    if (plan.uses[layer] < 0) {  // stays without a network
      auto& ffn = model->blocks[layer].ffn;
      ffn.groups[0].value.stored().set_requires_grad(false);
      if (ffn.value_bias.defined()) ffn.value_bias.set_requires_grad(false);
    }
  std::erase_if(parameters, [](const torch::Tensor& p) { return !p.requires_grad(); });
  torch::optim::AdamW adam(parameters,
                           torch::optim::AdamWOptions(o.learning_rate).weight_decay(0.01));
  lm::TrainingLoss loss(model);
  torch::manual_seed(static_cast<int64_t>(o.seed));
  const auto text =
      torch::from_blob(const_cast<int32_t*>(ids.data()), {std::ssize(ids)}, torch::kInt)
          .to(torch::kLong);
  const auto window = torch::arange(context);
  for (int64_t step = 0; step < o.steps; ++step) {
    const auto starts = torch::randint(std::ssize(ids) - context - 1, {o.batch, 1}, torch::kLong);
    const auto places = starts + window;
    const double done = static_cast<double>(step) / static_cast<double>(o.steps);
    for (auto& group : adam.param_groups())
      static_cast<torch::optim::AdamWOptions&>(group.options())
          .lr(o.learning_rate * (0.55 + 0.45 * std::cos(3.14159265 * done)));
    adam.zero_grad();
    auto value = loss(text.index({places}), text.index({places + 1}));
    value.backward();
    torch::nn::utils::clip_grad_norm_(parameters, 1.0);
    adam.step();
  }
  model->eval();
}

int64_t ffn_parameters(const lm::Transformer& model, const SharePlan& plan) {
  int64_t sum = 0;
  for (size_t layer = 0; layer < plan.uses.size(); ++layer) {
    if (plan.uses[layer] != static_cast<int64_t>(layer)) continue;
    const auto rows = neuron_rows(model->blocks[layer].ffn);
    for (const auto* part : {&rows.key, &rows.gate, &rows.value, &rows.key_bias, &rows.gate_bias})
      if (part->defined()) sum += part->numel();
    const auto& end = model->blocks[layer].ffn.value_bias;
    if (end.defined()) sum += end.numel();
  }
  return sum;
}

}  // namespace cajal::surgery
