#include "cajal/atlas/confidence_control.h"

#include "cajal/core/error.h"
#include "cajal/math/calibration.h"

namespace cajal::atlas {

LastLayer last_layer(lm::Transformer& model, std::span<const int32_t> ids, int64_t context,
                     int64_t tokens) {
  const auto r = readout(model);
  std::vector<int64_t> counts(static_cast<size_t>(model->config.vocabulary));
  for (const auto id : ids) ++counts.at(static_cast<size_t>(id));
  const auto unigram = unigram_direction(counts);
  const Ablation ablation(r, last_stream(model, ids, context, tokens), unigram, counts);
  const auto u = writes(r, r.value).to(torch::kDouble);
  LastLayer out{.length = r.value.to(torch::kDouble).norm(2, 1),
                .null_share = null_share(r, null_space(r), r.value),
                .unigram = (torch::mv(u, unigram) / u.norm(2, 1)).abs(),
                .effects = {}};
  for (int64_t n = 0; n < r.value.size(0); ++n) out.effects.push_back(effect_of(ablation, n));
  return out;
}

torch::Tensor repeated_text(const lm::Config& config, std::span<const int32_t> ids, int64_t half,
                            int64_t count) {
  require(half > 1 && count > 0 && count * half <= std::ssize(ids),
          "repeated text: {} runs of {} tokens of a text of {}", count, half, ids.size());
  const auto first = torch::from_blob(const_cast<int32_t*>(ids.data()), {count, half}, torch::kInt)
                         .to(torch::kLong);
  std::vector<torch::Tensor> parts{first, first.slice(1, 0, half - 1)};
  if (config.begin_id >= 0)
    parts.insert(parts.begin(), torch::full({count, 1}, config.begin_id, torch::kLong));
  return torch::cat(parts, 1);
}

namespace {

std::string last_post(const lm::Transformer& model) {
  return fmt::format("blocks.{}.mlp.hook_post", model->config.layers - 1);
}

// Where neurons lie that are known by their original numbers.
torch::Tensor places(const lm::Transformer& model, const std::vector<int64_t>& neurons) {
  const auto index = torch::tensor(neurons, torch::kLong);
  const auto& order = model->blocks.back().ffn.order;
  return order.defined() ? order.argsort().index_select(0, index) : index;
}

}  // namespace

torch::Tensor entropies(lm::Transformer& model, const torch::Tensor& ids,
                        const std::vector<int64_t>& held, int64_t from) {
  const torch::NoGradGuard no_grad;
  lm::Hooks hooks;
  if (!held.empty())
    hooks.add(last_post(model), [&](std::string_view, const torch::Tensor& value) {
      const auto index = places(model, held);
      const auto a = value.index_select(-1, index);  // [rows, positions, held]
      const auto later =
          torch::minimum(a.slice(1, from), a.slice(1, 0, from).mean(1, /*keepdim=*/true));
      return value.index_copy(-1, index, torch::cat({a.slice(1, 0, from), later}, 1));
    });
  lm::Pass pass;
  pass.hooks = &hooks;
  std::vector<torch::Tensor> rows;
  for (const auto& some : ids.split(8)) {  // logits are large
    const auto log_p = torch::log_softmax(model->forward(some, pass), -1);
    rows.push_back(-(log_p.exp() * log_p).sum(-1));
  }
  return torch::cat(rows);
}

torch::Tensor heads_behind(lm::Transformer& model, const torch::Tensor& ids,
                           const std::vector<int64_t>& neurons, int64_t from) {
  const torch::NoGradGuard no_grad;
  const auto index = places(model, neurons);
  const auto& c = model->config;
  const auto mean_with = [&](int64_t layer, int64_t head) {
    lm::Hooks hooks;
    if (layer >= 0)
      hooks.add(fmt::format("blocks.{}.attn.hook_pattern", layer),
                [&](std::string_view, const torch::Tensor& pattern) {
                  auto out = pattern.clone();  // [batch, heads, queries, keys]
                  auto one = out.select(1, head);
                  one.zero_();
                  one.select(-1, 0).fill_(1);
                  return out;
                });
    hooks.stop_after(last_post(model));
    lm::Pass pass;
    pass.hooks = &hooks;
    return model->forward(ids, pass)
        .index_select(-1, index)
        .slice(1, from)
        .to(torch::kDouble)
        .mean()
        .item<double>();
  };
  const double before = mean_with(-1, 0);
  auto out = torch::zeros({c.layers, c.heads}, torch::kDouble);
  for (int64_t l = 0; l < c.layers; ++l)
    for (int64_t h = 0; h < c.heads; ++h) out[l][h] = mean_with(l, h) - before;
  return out;
}

ConfidenceDial::ConfidenceDial(lm::Transformer& model, std::span<const int32_t> ids,
                               int64_t context, int64_t tokens, const std::vector<int64_t>& neurons)
    : readout_(readout(model)), stream_(last_stream(model, ids, context, tokens)) {
  const auto index = torch::tensor(neurons, torch::kLong);
  written_ =
      torch::mm(stream_.activations.index_select(1, index), readout_.value.index_select(0, index));
}

ConfidenceDial::Score ConfidenceDial::score(double gain, double temperature) const {
  require(temperature > 0, "confidence dial: temperature {}", temperature);
  const auto logits = readout_.logits(stream_.stream + (gain - 1) * written_);
  const auto log_p = torch::log_softmax(logits / temperature, 1);
  const auto [sure, top] = log_p.exp().max(1);
  const auto right = top.eq(stream_.targets).to(torch::kFloat);
  const auto span = [](const torch::Tensor& t) {
    return std::span<const float>(t.data_ptr<float>(), static_cast<size_t>(t.numel()));
  };
  return {-log_p.gather(1, stream_.targets.unsqueeze(1)).mean().item<double>(),
          math::calibration_error(span(sure), span(right))};
}

}  // namespace cajal::atlas
