#include "cajal/atlas/pair_task.h"

#include "cajal/atlas/attribution.h"
#include "cajal/atlas/dense.h"
#include "cajal/atlas/probe.h"
#include "cajal/core/error.h"
#include "cajal/core/random.h"
#include "cajal/math/ranks.h"
#include "cajal/models/lm/checkpoint.h"
#include "cajal/models/lm/training.h"
#include "cajal/train/trainer.h"

namespace cajal::atlas {
namespace {

using torch::Tensor;

/// Bits and, as targets, the exclusive or of bits i and i - 2.
train::Batch bits(uint64_t seed, int64_t batch, int64_t tokens) {
  Random random(seed, 17);
  std::vector<int64_t> drawn(static_cast<size_t>(batch * tokens));
  for (auto& bit : drawn) bit = static_cast<int64_t>(random.below(2));
  const auto ids = torch::tensor(drawn).reshape({batch, tokens});
  auto targets = ids.bitwise_xor(ids.roll(2, 1));
  targets.slice(1, 0, 2).fill_(-100);
  return {ids, targets};
}

lm::Transformer trained(const PairTaskOptions& o, uint64_t seed) {
  auto model = lm::initialise(lm::config_from_json(o.model, "pair task"), seed + 10);
  lm::TrainingLoss loss(model);
  train::Options options;
  options.steps = o.steps, options.learning_rate = o.learning_rate;
  options.warmup_steps = o.steps / 20;
  train::run(train::task_of(
                 *model,
                 [&](const train::Slice& slice) {
                   return bits(1000 * seed + static_cast<uint64_t>(slice.step), o.batch, o.tokens);
                 },
                 [&](const train::Batch& b) { return loss(b[0], b[1]); }),
             options);
  return model;
}

/// Where a linear probe's accuracy rises most across the FFN.
int64_t answering_layer(lm::Transformer& model, const train::Batch& test) {
  const auto labels = test[1].slice(1, 2).flatten();
  const auto readable = [&](const std::string& point) {
    const torch::NoGradGuard no_grad;
    const auto x = record(model, test[0], {point}).values.begin()->second;
    const auto rows = x.slice(1, 2).flatten(0, 1);
    return fit_classes(rows, labels, 2).accuracy(rows, labels);
  };
  double most = -1;
  int64_t layer = 0;
  for (int64_t l = 0; l < model->config.layers; ++l) {
    const double rise = readable(fmt::format("blocks.{}.hook_mlp_out", l)) -
                        readable(fmt::format("blocks.{}.hook_resid_mid", l));
    if (rise > most) most = rise, layer = l;
  }
  return layer;
}

/// Gathers what the maps of one measure say.
struct Gathered {
  double share = 0, rank = 0;
  int64_t rows = 0;
  std::vector<double> last;  // rows, for the agreement with leaving out

  void add(const Tensor& map, bool causal) {
    const int64_t n = map.size(0);
    for (int64_t i = 2; i < n; ++i, ++rows) {
      const auto row = map[i].slice(0, 0, causal ? i + 1 : n).to(torch::kDouble);
      const auto own = row[i - 2];
      share += (own / row.sum()).item<double>();
      rank += 1 + row.gt(own).sum().item<double>();
    }
    add_last(map[n - 1]);
  }
  void add_last(const Tensor& row) {
    const auto values = row.to(torch::kDouble).contiguous();
    last.insert(last.end(), values.data_ptr<double>(), values.data_ptr<double>() + values.numel());
  }
};

/// How far the answer at the last token moves when each bit is the other one.
std::vector<double> flip_effects(lm::Transformer& model, const Tensor& ids, const Metric& metric) {
  const torch::NoGradGuard no_grad;
  const int64_t n = ids.size(1);
  // The text as it is, and then with each bit turned.
  const auto turned = ids.bitwise_xor(
      torch::cat({torch::zeros({1, n}, torch::kLong), torch::eye(n, torch::kLong)}));
  const auto logits = model->forward(turned);
  const auto start = metric(logits.slice(0, 0, 1));
  std::vector<double> out;
  for (int64_t j = 0; j < n; ++j)
    out.push_back((metric(logits.slice(0, j + 1, j + 2)) - start).abs().item<double>());
  return out;
}

}  // namespace

PairFindings study_pairs(const PairTaskOptions& o, uint64_t seed) {
  require(o.tokens >= 4 && o.samples > 0, "pair task: {} tokens and {} samples, expected 4 and 1",
          o.tokens, o.samples);
  auto model = trained(o, seed);
  const bool causal = model->config.causal;
  PairFindings out;
  const auto test = bits(999'999 + seed, 256, o.tokens);
  {
    const torch::NoGradGuard no_grad;
    const auto right = model->forward(test[0]).argmax(-1).eq(test[1]).slice(1, 2);
    out.accuracy = right.to(torch::kDouble).mean().item<double>();
  }
  out.layer = answering_layer(model, test);
  const auto ffn = dense_ffn(model->config, model->blocks[static_cast<size_t>(out.layer)].ffn);
  const std::string read = causal ? "norm2" : "norm1";
  std::map<std::string, Gathered> gathered;
  std::vector<double> effects;
  int64_t risen = 0;
  for (int64_t sample = 0; sample < o.samples; ++sample) {
    const auto ids = bits(5'000'000 + 1000 * seed + static_cast<uint64_t>(sample), 1, o.tokens)[0];
    const int64_t n = o.tokens;
    Tensor taylor = torch::zeros({n, n});
    const auto maps = attention_maps(
        model, ids, {},
        [&](int64_t l, std::string_view stage, int64_t begin, const Contributions& c) {
          if (l == out.layer && stage == read)
            taylor.slice(0, begin, begin + c.bias.size(0))
                .copy_(through_ffn_by_taylor(c, ffn).norms());
        });
    const auto& here = maps[static_cast<size_t>(out.layer)];
    const auto before = row_shares(here.at(read)), after = row_shares(here.at("ffn"));
    for (int64_t i = 2; i < n; ++i) risen += (after[i][i - 2] > before[i][i - 2]).item<bool>();
    gathered["attention weights"].add(here.attention, causal);
    gathered["attention rollout"].add(attention_rollout(maps)[static_cast<size_t>(out.layer)],
                                      causal);
    gathered["|alpha f(x)|"].add(here.at("attention"), causal);
    gathered["before the FFN"].add(here.at(read), causal);
    gathered["FFN by Taylor"].add(taylor, causal);
    gathered["FFN by integrated gradients"].add(here.at("ffn"), causal);
    const auto target = (ids[0][n - 1] + ids[0][n - 3]).remainder(2).reshape({1});
    const auto metric = logit_difference(target, 1 - target);
    const auto moved = flip_effects(model, ids, metric);
    effects.insert(effects.end(), moved.begin(), moved.end());
    const auto embedding = record(model, ids, {"hook_embed"}).values.begin()->second.detach();
    const auto gradient =
        attribution_patching(model, ids, {{"hook_embed", torch::zeros_like(embedding)}},
                             {"hook_embed"}, metric)
            .begin()
            ->second;
    gathered["gradient x input"].add_last(gradient[0].sum(-1).abs());
  }
  out.rises = static_cast<double>(risen) / static_cast<double>(o.samples * (o.tokens - 2));
  for (const auto& [name, g] : gathered) {
    const auto n = static_cast<double>(std::max<int64_t>(1, g.rows));
    out.scores[name] = {g.share / n, g.rank / n, math::spearman(g.last, effects)};
  }
  return out;
}

}  // namespace cajal::atlas
