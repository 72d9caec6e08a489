#include "cajal/surgery/errors.h"

#include <algorithm>

#include "cajal/core/error.h"
#include "cajal/models/lm/block.h"
#include "cajal/surgery/inputs.h"
#include "cajal/surgery/split.h"

namespace cajal::surgery {
namespace {

// E ||row||^2
double mean_square_length(const torch::Tensor& rows) {
  return rows.square().sum(-1).mean(0, false, torch::kDouble).item<double>();
}

// Where the ranked neurons are cut into groups, from 0 to all.
std::vector<int64_t> borders(int64_t neurons, const std::vector<double>& cuts) {
  std::vector<int64_t> out = {0, neurons};
  for (const double cut : cuts) out.push_back(heavy_count(neurons, cut));
  std::sort(out.begin(), out.end());
  out.erase(std::unique(out.begin(), out.end()), out.end());
  return out;
}

// The length of a typical token's stream: some are a thousand times longer than the others'.
double typical_square_length(const torch::Tensor& residual) {
  return residual.square().sum(-1).clamp_min(1e-30).log().mean().exp().item<double>();
}

Choices::Layer layer_choices(const lm::Config& config, const NeuronRows& rows,
                             const std::vector<int32_t>& order, const std::vector<int64_t>& border,
                             const std::vector<Format>& formats, const torch::Tensor& x) {
  Choices::Layer layer;
  layer.order = order;
  for (size_t g = 0; g + 1 < border.size(); ++g)
    layer.groups.push_back({.neurons = border[g + 1] - border[g], .key = {}, .value = {}});
  const auto a = activations(config, rows, x);
  for (const auto format : formats) {
    const Storage storage{.format = format};
    auto changed = rows;
    changed.key = kept(storage, rows.key);
    if (rows.gate.defined()) changed.gate = kept(storage, rows.gate);
    changed.value = kept(storage, rows.value);
    const auto off = a - activations(config, changed, x);
    const auto value_off = rows.value - changed.value;
    for (size_t g = 0; g < layer.groups.size(); ++g) {
      auto& group = layer.groups[g];
      const auto cut = [&](const torch::Tensor& t, int axis) {
        return t.slice(axis, border[g], border[g + 1]);
      };
      const auto bytes = group.neurons * row_bytes(format, x.size(1));
      group.key.bytes.push_back(bytes * (config.gated ? 2 : 1));
      group.value.bytes.push_back(bytes);
      group.key.error.push_back(mean_square_length(torch::matmul(cut(off, 1), cut(rows.value, 0))));
      group.value.error.push_back(mean_square_length(torch::matmul(cut(a, 1), cut(value_off, 0))));
    }
  }
  return layer;
}

}  // namespace

Choices measure_errors(lm::Transformer& model, const atlas::Census& census,
                       std::span<const int32_t> ids, const ErrorOptions& options) {
  const auto& config = model->config;
  require(census.layers.size() == model->blocks.size(), "census of {} layers, model of {}",
          census.layers.size(), model->blocks.size());
  Choices choices;
  for (const auto format : options.formats)
    if (config.width % block_values(format) == 0) choices.formats.push_back(format);
  require(!choices.formats.empty(), "none of the formats fits rows of {} values", config.width);
  choices.layers.resize(model->blocks.size());

  const auto on_input = [&](size_t l, const torch::Tensor& x) {
    const auto order = ranking(census.layers[l], options.score, options.seed + l);
    const auto rows = neuron_rows(model->blocks[l].ffn).select(order);
    choices.layers[l] = layer_choices(config, rows, order, borders(rows.neurons(), options.cuts),
                                      choices.formats, x);
  };
  const auto on_residual = [&](size_t l, const torch::Tensor& residual) {
    const double typical = typical_square_length(residual);
    for (auto& group : choices.layers[l].groups)
      for (auto* half : {&group.key, &group.value})
        for (auto& error : half->error) error /= typical;
  };
  visit_inputs(model, ids, options.tokens, on_input, on_residual);
  return choices;
}

double plan_error(lm::Transformer& model, const Plan& plan, const atlas::Census& census,
                  std::span<const int32_t> ids, int64_t tokens) {
  require(plan.layers.size() == model->blocks.size(), "plan for {} layers, model of {}",
          plan.layers.size(), model->blocks.size());
  std::vector<double> of_layer(model->blocks.size());
  const lm::Points no_points(nullptr);
  const auto on_input = [&](size_t l, const torch::Tensor& x) {
    const auto& ffn = model->blocks[l].ffn;
    const auto y = lm::feed_forward(model->config, ffn, x, no_points);
    const auto changed = split(ffn, plan.layers[l], census.layers[l]);
    of_layer[l] = mean_square_length(y - lm::feed_forward(model->config, changed, x, no_points));
  };
  double sum = 0;
  visit_inputs(model, ids, tokens, on_input, [&](size_t l, const torch::Tensor& residual) {
    sum += of_layer[l] / typical_square_length(residual);
  });
  return sum;
}

ErrorOptions fine_errors() {
  ErrorOptions out{.formats = {Format::q4_0, Format::q4_1, Format::q4_K, Format::q5_0, Format::q5_1,
                               Format::q5_K, Format::q6_K, Format::q8_0, Format::bf16},
                   .cuts = {1 / 32.0}};
  for (int cut = 1; cut < 16; ++cut) out.cuts.push_back(cut / 16.0);
  return out;
}

BudgetPlan best_for_budget(lm::Transformer& model, const atlas::Census& census,
                           std::span<const int32_t> ids, int64_t budget,
                           const ErrorOptions& options) {
  const auto choices = measure_errors(model, census, ids, options);
  const auto judged = [&](const Plan& plan) -> JudgedPlan {
    return {plan, plan_bytes(plan, model->config.width, model->config.gated),
            plan_error(model, plan, census, ids, options.tokens)};
  };
  BudgetPlan out{judged(plan_for_budget(choices, budget)), {}};
  std::vector<Plan> plain;
  if (const auto format = best_uniform(choices, budget))
    plain.push_back(make_plan("all=" + to_name(choices.formats[*format]), census));
  const auto mix = make_plan(usual_mix(model->config.width), census);
  if (plan_bytes(mix, model->config.width, model->config.gated) <= budget) plain.push_back(mix);
  for (const auto& plan : plain) {
    const auto own = judged(plan);
    if (out.plain.plan.layers.empty() || own.error < out.plain.error) out.plain = own;
  }
  if (plain.empty() || out.best.error <= out.plain.error) return out;
  // Ordered as the choices are, so that it can be cut where they were measured.
  auto ordered = out.plain.plan;
  for (size_t l = 0; l < ordered.layers.size(); ++l)
    ordered.layers[l].order = choices.layers[l].order;
  const auto more = judged(filled(choices, ordered, budget));
  out.best = more.error <= out.plain.error ? more : out.plain;
  return out;
}

std::vector<double> output_errors(lm::Transformer& model, const lm::Transformer& changed,
                                  std::span<const int32_t> ids, int64_t tokens) {
  require(changed->blocks.size() == model->blocks.size(), "models of {} and {} layers",
          model->blocks.size(), changed->blocks.size());
  std::vector<double> out(model->blocks.size());
  const lm::Points no_points(nullptr);
  visit_inputs(model, ids, tokens, [&](size_t l, const torch::Tensor& x) {
    const auto y = lm::feed_forward(model->config, model->blocks[l].ffn, x, no_points);
    const auto z = lm::feed_forward(changed->config, changed->blocks[l].ffn, x, no_points);
    out[l] = mean_square_length(y - z) / mean_square_length(y);
  });
  return out;
}

}  // namespace cajal::surgery
