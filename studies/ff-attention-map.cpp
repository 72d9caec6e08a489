#include "cajal/atlas/attention_map.h"
#include "cajal/atlas/attribution.h"
#include "cajal/atlas/probe.h"
#include "cajal/atlas/text.h"
#include "cajal/core/timing.h"
#include "cajal/data/catalogue.h"
#include "cajal/math/ranks.h"
#include "cajal/models/lm/checkpoint.h"
#include "cajal/models/lm/training.h"
#include "cajal/study/study.h"
#include "cajal/train/trainer.h"

namespace {
using namespace cajal;
using atlas::BiasMode;
using torch::Tensor;

Json architecture(const std::string& kind, int64_t layers, int64_t width, int64_t vocabulary,
                  int64_t context) {
  if (kind == "bert")
    return {{"model_type", "bert"},     {"architectures", {"BertForMaskedLM"}},
            {"hidden_size", width},     {"num_hidden_layers", layers},
            {"num_attention_heads", 4}, {"intermediate_size", 4 * width},
            {"vocab_size", vocabulary}, {"max_position_embeddings", context}};
  if (kind == "llama")
    return {{"model_type", "llama"},
            {"hidden_size", width},
            {"num_hidden_layers", layers},
            {"num_attention_heads", 4},
            {"vocab_size", vocabulary},
            {"intermediate_size", 4 * width},
            {"max_position_embeddings", context}};
  return {{"model_type", "opt"},
          {"hidden_size", width},
          {"word_embed_proj_dim", width},
          {"num_hidden_layers", layers},
          {"num_attention_heads", 4},
          {"ffn_dim", 4 * width},
          {"vocab_size", vocabulary},
          {"max_position_embeddings", context},
          {"activation_function", kind == "opt-relu" ? "relu" : "gelu"},
          {"do_layer_norm_before", kind != "opt-post"}};
}

lm::Transformer fresh(const Json& json, uint64_t seed, double deviation = 0.02) {
  return lm::initialise(lm::config_from_json(json, "ff-attention-map"), seed, deviation);
}

void fit(lm::Transformer& model, int64_t steps, double rate,
         const std::function<train::Batch(uint64_t)>& batch) {
  lm::TrainingLoss loss(model);
  train::Options options;
  options.steps = steps, options.learning_rate = rate, options.warmup_steps = steps / 20;
  train::run(
      train::task_of(
          *model,
          [&](const train::Slice& slice) { return batch(static_cast<uint64_t>(slice.step)); },
          [&](const train::Batch& b) { return loss(b[0], b[1]); }),
      options);
}

/// Works when 1 to 3 and 6: the algebra.
void exactness(study::Lab& lab) {
  const int64_t tokens = lab.by_scale(12, 512, 512), width = lab.by_scale(32, 768, 768);
  auto large = fresh(architecture("opt", 1, width, 100, tokens), 1);
  const auto text = torch::randint(100, {1, tokens}, torch::kLong);
  const Stopwatch watch;
  const auto maps = atlas::attention_maps(large, text);
  const double seconds = watch.seconds(), memory = static_cast<double>(peak_memory_bytes()) / 1e9;
  lab.claim(fmt::format("peak memory of a layer of {} tokens x {}, GB", tokens, width))
      .paper("")
      .measured(memory)
      .at_most(3);
  lab.note(fmt::format("That layer took {:.1f} s.", seconds));

  double worst32 = 0, worst64 = 0, masked = 0, tiles = 0;
  auto table = lab.table("completeness: largest error over all stages, relative",
                         {"model", "bias mode", "rollout", "fp32", "fp64"});
  for (const char* kind : {"opt", "opt-relu", "opt-post", "llama", "bert"})
    for (const auto mode : {BiasMode::inside, BiasMode::token})
      for (const bool rollout : {false, true}) {
        auto model = fresh(architecture(kind, 2, 32, 50, 24), 2, 0.3);
        const auto ids = torch::randint(50, {1, 20}, torch::kLong);
        const auto worst = [&](double& overall) {
          double here = 0;
          const auto layers = atlas::attention_maps(model, ids, {mode, rollout, 16});
          const auto other = atlas::attention_maps(model, ids, {mode, rollout, 3});
          for (size_t l = 0; l < layers.size(); ++l)
            for (size_t s = 0; s < layers[l].stages.size(); ++s) {
              const auto& map = layers[l].stages[s].map;
              here = std::max(here, layers[l].stages[s].error);
              tiles += !map.equal(other[l].stages[s].map);
              if (model->config.causal) masked += map.triu(1).abs().sum().item<double>();
            }
          overall = std::max(overall, here);
          return here;
        };
        const double in32 = worst(worst32);
        model->to(torch::kDouble);
        table.row(kind, to_name(mode), rollout ? "yes" : "no", in32, worst(worst64));
      }
  lab.claim("parts sum to the activation at every stage, fp32")
      .paper("exact")
      .measured(worst32)
      .at_most(1e-4);
  lab.claim("the same in fp64").paper("exact").measured(worst64).at_most(1e-10);
  lab.claim("causally masked tokens contribute nothing").paper("").holds(masked == 0);
  lab.claim("maps of any tile are identical").paper("").holds(tiles == 0);

  const auto o = torch::kDouble;
  const atlas::Contributions x{torch::randn({16, 32, 64}, o), torch::randn({16, 64}, o)};
  double difference = 0, linear = 0;
  std::vector<double> speed;
  for (const auto law : {Activation::gelu, Activation::relu, Activation::silu})
    for (const bool gated : {false, true}) {
      atlas::FfnWeights ffn{torch::randn({256, 64}, o) / 8,
                            {},
                            torch::randn({256, 64}, o) / 16,
                            torch::randn({256}, o),
                            {},
                            {},
                            law,
                            gated};
      if (gated) ffn.gate = torch::randn({256, 64}, o) / 8;
      Stopwatch slow_watch;
      const auto slow = atlas::through_ffn_numerically(x, ffn, BiasMode::inside, 512);
      const double slow_time = slow_watch.seconds();
      Stopwatch fast_watch;
      const auto fast = atlas::through_ffn(x, ffn, BiasMode::inside);
      if (!gated) speed.push_back(slow_time / fast_watch.seconds());
      difference =
          std::max(difference,
                   ((fast.parts - slow.parts).abs().max() / fast.parts.abs().max()).item<double>());
      if (gated) continue;
      ffn.law = Activation::identity;
      const auto split = torch::matmul(torch::matmul(x.parts, ffn.key.t()), ffn.value);
      linear = std::max(
          linear,
          (atlas::through_ffn(x, ffn, BiasMode::inside).parts - split).abs().max().item<double>());
    }
  lab.claim("closed form against 512 numerical steps, fp64, relative")
      .paper("")
      .measured(difference)
      .at_most(1e-3);
  lab.claim("closed form is so many times faster than 512 steps")
      .paper("")
      .measured(median(speed))
      .at_least(50);
  lab.claim("a linear FFN is split linearly").paper("").measured(linear).at_most(1e-6);
  atlas::FfnWeights relu{torch::randn({256, 64}, o), {},   torch::randn({256, 64}, o), {}, {}, {},
                         Activation::relu,           false};
  const atlas::Contributions pure{x.parts, torch::zeros({16, 64}, o)};
  const auto on = (torch::matmul(pure.total(), relu.key.t()) > 0).unsqueeze(1);
  const auto masking = torch::matmul(torch::matmul(x.parts, relu.key.t()) * on, relu.value);
  lab.claim("relu without bias is masking (largest difference)")
      .paper("")
      .measured((atlas::through_ffn(pure, relu, BiasMode::inside).parts - masking)
                    .abs()
                    .max()
                    .item<double>())
      .at_most(1e-10);
  auto one = fresh(architecture("bert", 2, 32, 50, 8), 3, 0.3);
  double gap = 0;
  atlas::attention_maps(
      one, torch::randint(50, {1, 1}, torch::kLong), {},
      [&](int64_t, std::string_view, int64_t, const atlas::Contributions& c) {
        gap = std::max(
            gap,
            (c.norms().squeeze(1) - (c.total() - c.bias).norm(2, -1)).abs().max().item<double>());
      });
  lab.claim("one token: map = |activation - bias part|").paper("").measured(gap).at_most(1e-5);
}

/// Bits and, as targets, the exclusive or of bits i and i - 2.
train::Batch xor_batch(uint64_t seed, int64_t batch, int64_t tokens) {
  Random random(seed, 17);
  std::vector<int64_t> bits(static_cast<size_t>(batch * tokens));
  for (auto& bit : bits) bit = static_cast<int64_t>(random.below(2));
  const auto ids = torch::tensor(bits).reshape({batch, tokens});
  auto targets = ids.bitwise_xor(ids.roll(2, 1));
  targets.slice(1, 0, 2).fill_(-100);
  return {ids, targets};
}

/// What one measure says about the pair (i, i - 2) over all rows of all samples.
struct PairScore {
  double share = 0, rank = 0;  // mean share of the row; rank in the row, 1 = the largest
  std::vector<double> values;  // of the last rows, for the correlation with leaving out
  int64_t rows = 0;

  void add(const Tensor& map, bool causal) {
    const int64_t n = map.size(0);
    for (int64_t i = 2; i < n; ++i, ++rows) {
      const auto row = map[i].slice(0, 0, causal ? i + 1 : n).to(torch::kDouble);
      const auto own = row[i - 2];
      share += (own / row.sum()).item<double>();
      rank += 1 + row.gt(own).sum().item<double>();
    }
    const auto last = map[n - 1].to(torch::kDouble).contiguous();
    values.insert(values.end(), last.data_ptr<double>(), last.data_ptr<double>() + n);
  }
};

/// Works when 4: figures of one trained network, by method.
struct XorResult {
  double accuracy = 0, rises = 0, layer = 0;
  std::map<std::string, PairScore> scores;
  std::vector<double> effects;
};

XorResult run_xor(const std::string& kind, uint64_t seed, int64_t steps, int64_t samples) {
  const int64_t n = 12;
  auto model = fresh(architecture(kind, 2, 64, 2, n), seed + 10);
  fit(model, steps, 3e-3, [&](uint64_t step) { return xor_batch(1000 * seed + step, 64, n); });
  const bool causal = model->config.causal;
  XorResult out;
  const auto test = xor_batch(999'999 + seed, 256, n);
  {
    const torch::NoGradGuard no_grad;
    const auto right = model->forward(test[0]).argmax(-1).eq(test[1]).slice(1, 2);
    out.accuracy = right.to(torch::kDouble).mean().item<double>();
  }
  // The layer that computes it: where a linear probe's accuracy rises most across the FFN.
  const auto labels = test[1].slice(1, 2).flatten();
  const auto readable = [&](const std::string& point) {
    const torch::NoGradGuard no_grad;
    const auto x = atlas::record(model, test[0], {point}).values.begin()->second;
    return atlas::fit_classes(x.slice(1, 2).flatten(0, 1), labels, 2)
        .accuracy(x.slice(1, 2).flatten(0, 1), labels);
  };
  double most = -1;
  size_t layer = 0;
  for (size_t l = 0; l < 2; ++l) {
    const double rise = readable(fmt::format("blocks.{}.hook_mlp_out", l)) -
                        readable(fmt::format("blocks.{}.hook_resid_mid", l));
    if (rise > most) most = rise, layer = l;
  }
  out.layer = static_cast<double>(layer);
  const auto ffn = atlas::dense_ffn(model->config, model->blocks[layer].ffn);
  int64_t risen = 0;
  for (int64_t sample = 0; sample < samples; ++sample) {
    const auto ids = xor_batch(5'000'000 + 1000 * seed + static_cast<uint64_t>(sample), 1, n)[0];
    const auto target = (ids[0][n - 1] + ids[0][n - 3]).remainder(2).reshape({1});
    Tensor taylor = torch::zeros({n, n});
    const auto read = causal ? "norm2" : "norm1";
    const auto maps = atlas::attention_maps(
        model, ids, {},
        [&](int64_t l, std::string_view stage, int64_t begin, const atlas::Contributions& c) {
          if (l == static_cast<int64_t>(layer) && stage == read)
            taylor.slice(0, begin, begin + c.bias.size(0))
                .copy_(atlas::through_ffn_by_taylor(c, ffn).norms());
        });
    const auto& here = maps[layer];
    const auto before = atlas::row_shares(here.at(read)), after = atlas::row_shares(here.at("ffn"));
    for (int64_t i = 2; i < n; ++i) risen += (after[i][i - 2] > before[i][i - 2]).item<bool>();
    out.scores["attention weights"].add(here.attention, causal);
    out.scores["attention rollout"].add(atlas::attention_rollout(maps)[layer], causal);
    out.scores["|alpha f(x)|"].add(here.at("attention"), causal);
    out.scores["before the FFN"].add(here.at(read), causal);
    out.scores["FFN by Taylor"].add(taylor, causal);
    out.scores["FFN by integrated gradients"].add(here.at("ffn"), causal);
    const auto metric = atlas::logit_difference(target, 1 - target);
    const auto start = metric(model->forward(ids)).detach();
    for (int64_t j = 0; j < n; ++j) {
      auto flipped = ids.clone();
      flipped[0][j] = 1 - flipped[0][j];
      out.effects.push_back((metric(model->forward(flipped)) - start).abs().item<double>());
    }
    const auto embedding =
        atlas::record(model, ids, {"hook_embed"}).values.begin()->second.detach();
    const auto gxi = atlas::attribution_patching(
        model, ids, {{"hook_embed", torch::zeros_like(embedding)}}, {"hook_embed"}, metric);
    auto row = torch::zeros({n, n});
    row[n - 1].copy_(gxi.begin()->second[0].sum(-1).abs());
    out.scores["gradient x input"].add(row, causal);
  }
  out.rises = static_cast<double>(risen) / static_cast<double>(samples * (n - 2));
  return out;
}

void xor_task(study::Lab& lab, const std::string& kind, bool judged) {
  auto table = lab.table(
      "the pair (i, i - 2) of an exclusive or, " + kind,
      {"measure", "share of the row", "rank in the row", "Spearman with leaving a token out"});
  std::map<std::string, std::vector<std::vector<double>>> rows;
  const auto figures = lab.over_seeds([&](uint64_t seed) -> std::vector<double> {
    const auto r = run_xor(kind, seed, lab.by_scale(30, 1000, 3000), lab.by_scale(4, 50, 200));
    std::map<std::string, double> agreement;
    for (const auto& [name, score] : r.scores) {
      agreement[name] = math::spearman(score.values, r.effects);
      auto& per = rows[name];
      per.resize(3);
      const auto n = static_cast<double>(name == "gradient x input" ? score.rows / 10 : score.rows);
      per[0].push_back(score.share / n), per[1].push_back(score.rank / n);
      per[2].push_back(agreement[name]);
    }
    const auto rank = [&](const char* name) {
      const auto& s = r.scores.at(name);
      return s.rank / static_cast<double>(s.rows);
    };
    return {r.accuracy, r.rises, r.layer,
            rank("attention weights") - rank("FFN by integrated gradients"),
            agreement["FFN by integrated gradients"] - agreement["attention weights"]};
  });
  for (const auto& [name, per] : rows) {
    const bool last_only = name == "gradient x input";
    table.row(name, last_only ? study::Cell("") : study::Cell(per[0]),
              last_only ? study::Cell("") : study::Cell(per[1]), per[2]);
  }
  table.row("(accuracy of the network)", figures[0], "", "");
  if (!judged) return;
  lab.claim("the true pair's share rises through the FFN that computes it, share of rows (" + kind +
            ")")
      .paper("FFN amplifies compositions")
      .measured(figures[1])
      .in_percent()
      .at_least(0.9);
  lab.claim("attention weights rank the true pair lower than the FFN map, places")
      .paper("")
      .measured(figures[3])
      .at_least(1e-9);
  lab.claim("Spearman with leaving a token out: FFN map minus attention weights")
      .paper("")
      .measured(figures[4])
      .at_least(0.1);
}

/// Works when 5: what a layer's FFN does, and what remains of it.
void language_models(study::Lab& lab) {
  std::filesystem::path folder;
  std::vector<int32_t> train_ids, valid_ids;
  if (lab.smoke()) {
    auto random = lab.random();
    for (auto* ids : {&train_ids, &valid_ids})
      for (int t = 0; t < 4096; ++t) ids->push_back(static_cast<int32_t>(random.below(64)));
  } else {
    try {
      folder = lm::find_model("opt-classics");
      data::find_dataset("classics");
    } catch (const Error& absent) {
      return lab.not_shown("cancellation in trained language models", absent.what());
    }
    train_ids =
        atlas::read_text(folder, 8192, "classics/train", lab.by_scale(0, 400'000, 8'000'000)).ids;
    valid_ids = atlas::read_text(folder, 8192, "classics/valid", 16'384).ids;
  }
  const int64_t vocabulary = lab.smoke() ? 64 : 8192, context = 64;
  const auto ids = torch::tensor(train_ids).to(torch::kLong),
             valid = torch::tensor(valid_ids).to(torch::kLong);
  auto table = lab.table(
      "change of the map by the parts around the FFN (1 - Spearman)",
      {"model", "layer", "by FFN", "by residual", "by norm", "net", "net / FFN", "cancel cosine"});
  // Layers x {ffn, residual, norm, net, cancel}, mean over texts.
  const auto measure = [&](lm::Transformer& model) {
    std::vector<std::array<double, 5>> sums(static_cast<size_t>(model->config.layers));
    const int64_t texts = lab.by_scale(1, 8, 32);
    for (int64_t k = 0; k < texts; ++k) {
      const auto maps =
          atlas::attention_maps(model, valid.slice(0, k * context, (k + 1) * context).unsqueeze(0));
      for (size_t l = 0; l < maps.size(); ++l) {
        const auto c = atlas::layer_change(maps[l], {true, 1});
        const double all[] = {c.ffn, c.residual, c.norm, c.net, c.cancel};
        for (size_t i = 0; i < 5; ++i) sums[l][i] += all[i] / static_cast<double>(texts);
      }
    }
    return sums;
  };
  const auto report = [&](const std::string& name,
                          const std::vector<std::vector<std::array<double, 5>>>& seeds) {
    double worst = 0;
    for (size_t l = 0; l < seeds[0].size(); ++l) {
      std::array<study::Figure, 5> f;
      for (const auto& seed : seeds)
        for (size_t i = 0; i < 5; ++i) f[i].values.push_back(seed[l][i]);
      const double ratio = f[3].mean() / f[0].mean();
      worst = std::max(worst, ratio);
      table.row(name, l, f[0], f[1], f[2], f[3], ratio, f[4]);
    }
    lab.claim(name + ": net change over the FFN's own, worst layer")
        .paper("much smaller than 1")
        .measured(worst)
        .at_most(1);
  };
  for (const char* kind : {"opt", "opt-post"}) {
    std::vector<std::vector<std::array<double, 5>>> seeds;
    for (const auto seed : lab.seeds()) {
      auto model =
          fresh(architecture(kind, 4, lab.by_scale(32, 128, 256), vocabulary, context), seed + 1);
      fit(model, lab.by_scale(3, 400, 4000), 2e-3, [&](uint64_t step) -> train::Batch {
        Random random(seed, step);
        std::vector<Tensor> windows;
        for (int k = 0; k < 16; ++k) {
          const auto begin =
              static_cast<int64_t>(random.below(static_cast<uint64_t>(ids.size(0) - context - 1)));
          windows.push_back(ids.slice(0, begin, begin + context + 1));
        }
        const auto all = torch::stack(windows);
        return {all.slice(1, 0, context), all.slice(1, 1)};
      });
      seeds.push_back(measure(model));
    }
    report(std::string(kind) + ", trained here", seeds);
  }
  if (lab.smoke()) return;
  for (const char* name : {"opt-classics", "llama-classics"}) {
    auto model = lm::load(lm::find_model(name));
    report(name, {measure(model)});
  }
}

void run(study::Lab& lab) {
  exactness(lab);
  xor_task(lab, "opt", true);
  xor_task(lab, "bert", false);
  language_models(lab);
  lab.not_shown("subwords, noun compounds and idioms in BERT and GPT-2",
                "no such checkpoint ships; attention_maps takes any that loads");
}

const auto registered = study::add({.slug = "ff-attention-map"}, run);
}  // namespace
