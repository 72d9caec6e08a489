#include "cajal/atlas/circuit.h"

#include <algorithm>

#include "cajal/core/error.h"

namespace cajal::atlas {
namespace {

Circuit circuit_of(const lm::Config& c, bool kept) {
  Circuit out;
  for (int64_t layer = 0; layer < c.layers; ++layer) {
    out.heads.push_back(torch::full({c.heads}, kept, torch::kBool));
    out.neurons.push_back(torch::full({c.neurons}, kept, torch::kBool));
  }
  return out;
}

double normalised_logit(const torch::Tensor& logits, const torch::Tensor& answers) {
  const auto last = logits.select(1, -1);
  const auto right = last.gather(1, answers.unsqueeze(1)).squeeze(1);
  return (right / last.amax(-1)).to(torch::kDouble).mean().item<double>();
}

}  // namespace

Circuit whole_circuit(const lm::Config& config) { return circuit_of(config, true); }
Circuit empty_circuit(const lm::Config& config) { return circuit_of(config, false); }

std::vector<std::string> circuit_points() {
  return {"blocks.*.attn.hook_z", "blocks.*.mlp.hook_post"};
}

void keep_only(lm::Hooks& hooks, const Circuit& circuit, const Recording& means) {
  const auto set_others = [&](const std::string& point, const torch::Tensor& dropped) {
    const auto found = means.find(point);
    require(found != means.end(), "circuit: the means hold no '{}'", point);
    hooks.add(point, [dropped, mean = found->second](std::string_view, const torch::Tensor& own) {
      return torch::where(dropped, mean.to(own.options()), own);
    });
  };
  for (size_t layer = 0; layer < circuit.heads.size(); ++layer) {
    const auto prefix = fmt::format("blocks.{}.", layer);
    set_others(prefix + "attn.hook_z", ~circuit.heads[layer].unsqueeze(-1));
    set_others(prefix + "mlp.hook_post", ~circuit.neurons[layer]);
  }
}

double faithfulness(lm::Transformer& model, const torch::Tensor& ids, const torch::Tensor& answers,
                    const Circuit& circuit, const Recording& means) {
  const torch::NoGradGuard no_grad;
  const auto with = [&](const Circuit& kept) {
    lm::Hooks hooks;
    keep_only(hooks, kept, means);
    return normalised_logit(model->forward(ids, {.hooks = &hooks}), answers);
  };
  const double none = with(empty_circuit(model->config)),
               whole = with(whole_circuit(model->config));
  return (with(circuit) - none) / (whole - none);
}

double answer_accuracy(lm::Transformer& model, const torch::Tensor& ids,
                       const torch::Tensor& answers, lm::Hooks* hooks) {
  const torch::NoGradGuard no_grad;
  const auto logits = model->forward(ids, {.hooks = hooks}).select(1, -1);
  return logits.argmax(-1).eq(answers).to(torch::kDouble).mean().item<double>();
}

torch::Tensor patching_effects(lm::Transformer& model, const torch::Tensor& ids,
                               const torch::Tensor& source, const Metric& metric) {
  const torch::NoGradGuard no_grad;
  const auto& c = model->config;
  const auto from = record(model, source, circuit_points()).values;
  auto out = torch::zeros({c.layers, c.heads + 1, ids.size(1)}, torch::kDouble);
  for (int64_t layer = 0; layer < c.layers; ++layer)
    for (int64_t part = 0; part <= c.heads; ++part)
      for (int64_t position = 0; position < ids.size(1); ++position) {
        lm::Hooks hooks;
        if (part < c.heads) {
          patch(hooks, {fmt::format("blocks.{}.attn.hook_z", layer), {position}, {part}}, from);
        } else {
          patch(hooks, {fmt::format("blocks.{}.mlp.hook_post", layer), {position}}, from);
        }
        out[layer][part][position] = metric(model->forward(ids, {.hooks = &hooks})).mean();
      }
  return out;
}

HeadGrowth grow_heads(lm::Transformer& model, const torch::Tensor& ids,
                      const torch::Tensor& answers, const Recording& means,
                      const torch::Tensor& effects, double target) {
  const auto& c = model->config;
  const auto strength = effects.slice(1, 0, c.heads).abs().sum(-1).flatten();
  const auto order = strength.argsort(-1, /*descending=*/true);
  HeadGrowth out{whole_circuit(c), {}, {}};
  for (auto& heads : out.circuit.heads) heads.zero_();
  for (int64_t k = 0; k < order.size(0); ++k) {
    const auto at = order[k].item<int64_t>();
    out.heads.emplace_back(at / c.heads, at % c.heads);
    out.circuit.heads[static_cast<size_t>(at / c.heads)][at % c.heads] = true;
    out.faithfulness.push_back(faithfulness(model, ids, answers, out.circuit, means));
    if (out.faithfulness.back() >= target) break;
  }
  return out;
}

}  // namespace cajal::atlas
