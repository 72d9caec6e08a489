#include <algorithm>

#include "cajal/atlas/pair_task.h"
#include "cajal/atlas/text.h"
#include "cajal/core/timing.h"
#include "cajal/models/lm/checkpoint.h"
#include "cajal/study/subject.h"
#include "cajal/study/trained_seed.h"

namespace {
using namespace cajal;
using atlas::BiasMode;

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

/// Errors of all stages in fp32 and fp64, what masked tokens gave, and maps that depend on the
/// tile.
std::vector<double> completeness(const char* kind, BiasMode mode, bool rollout) {
  auto model = fresh(architecture(kind, 2, 32, 50, 24), 2, 0.3);
  const auto ids = torch::randint(50, {1, 20}, torch::kLong);
  double error[2] = {}, masked = 0, tiles = 0;
  for (const bool wide : {false, true}) {
    if (wide) model->to(torch::kDouble);
    const auto layers = atlas::attention_maps(model, ids, {mode, rollout, 16});
    const auto other = atlas::attention_maps(model, ids, {mode, rollout, 3});
    for (size_t l = 0; l < layers.size(); ++l)
      for (size_t s = 0; s < layers[l].stages.size(); ++s) {
        const auto& map = layers[l].stages[s].map;
        error[wide] = std::max(error[wide], layers[l].stages[s].error);
        tiles += !map.equal(other[l].stages[s].map);
        if (model->config.causal) masked += map.triu(1).abs().sum().item<double>();
      }
  }
  return {error[0], error[1], masked, tiles};
}

/// Works when 1 and 6: the parts sum to the whole, in little memory.
void whole_layers(study::Lab& lab) {
  const int64_t tokens = lab.by_scale(12, 512, 512), width = lab.by_scale(32, 768, 768);
  const auto large = lab.part("large layer", [&] {
    auto model = fresh(architecture("opt", 1, width, 100, tokens), 1);
    const Stopwatch watch;
    atlas::attention_maps(model, torch::randint(100, {1, tokens}, torch::kLong));
    return std::vector<double>{static_cast<double>(peak_memory_bytes()) / 1e9, watch.seconds()};
  });
  lab.claim(fmt::format("peak memory of a layer of {} tokens x {}, GB", tokens, width))
      .paper("")
      .measured(large[0])
      .at_most(3);
  lab.note(fmt::format("That layer took {:.1f} s.", large[1]));

  auto table = lab.table("completeness: largest error over all stages, relative",
                         {"model", "bias mode", "rollout", "fp32", "fp64"});
  double worst[4] = {};
  for (const char* kind : {"opt", "opt-relu", "opt-post", "llama", "bert"})
    for (const auto mode : {BiasMode::inside, BiasMode::token})
      for (const bool rollout : {false, true}) {
        const auto name =
            fmt::format("completeness, {}, {}{}", kind, to_name(mode), rollout ? ", rollout" : "");
        const auto e = lab.part(name, [&] { return completeness(kind, mode, rollout); });
        table.row(kind, to_name(mode), rollout ? "yes" : "no", e[0], e[1]);
        for (size_t k = 0; k < 4; ++k) worst[k] = std::max(worst[k], e[k]);
      }
  lab.claim("parts sum to the activation at every stage, fp32")
      .paper("exact")
      .measured(worst[0])
      .at_most(1e-4);
  lab.claim("the same in fp64").paper("exact").measured(worst[1]).at_most(1e-10);
  lab.claim("causally masked tokens contribute nothing").paper("").holds(worst[2] == 0);
  lab.claim("maps of any tile are identical").paper("").holds(worst[3] == 0);
}

/// Differences of the closed form from 512 numerical steps and, with a linear law, from the linear
/// split; and how many times faster it is (plain laws, median over rounds and laws).
std::vector<double> closed_form(study::Lab& lab) {
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
      atlas::Contributions slow, fast;
      const auto times = time_interleaved(
          {[&] { slow = atlas::through_ffn_numerically(x, ffn, BiasMode::inside, 512); },
           [&] { fast = atlas::through_ffn(x, ffn, BiasMode::inside); }},
          gated ? 1 : lab.by_scale(1, 5, 5), 1);
      difference =
          std::max(difference,
                   ((fast.parts - slow.parts).abs().max() / fast.parts.abs().max()).item<double>());
      if (gated) continue;
      speed.push_back(times.ratio(0, 1));
      ffn.law = Activation::identity;
      const auto split = torch::matmul(torch::matmul(x.parts, ffn.key.t()), ffn.value);
      linear = std::max(
          linear,
          (atlas::through_ffn(x, ffn, BiasMode::inside).parts - split).abs().max().item<double>());
    }
  return {difference, linear, median(speed)};
}

/// Works when 2 and 3: integrated gradients of an FFN in closed form.
void closed_forms(study::Lab& lab) {
  const auto f = lab.part("closed form", [&] { return closed_form(lab); });
  lab.claim("closed form against 512 numerical steps, fp64, relative")
      .paper("")
      .measured(f[0])
      .at_most(1e-3);
  lab.claim("closed form is so many times faster than 512 steps")
      .paper("")
      .measured(f[2])
      .at_least(50);
  lab.claim("a linear FFN is split linearly").paper("").measured(f[1]).at_most(1e-6);
  lab.claim("relu without bias is masking (largest difference)")
      .paper("")
      .measured(
          lab.part("relu masks",
                   [] {
                     const auto o = torch::kDouble;
                     atlas::FfnWeights relu{
                         torch::randn({256, 64}, o), {},   torch::randn({256, 64}, o), {}, {}, {},
                         Activation::relu,           false};
                     const atlas::Contributions pure{torch::randn({16, 32, 64}, o),
                                                     torch::zeros({16, 64}, o)};
                     const auto on = (torch::matmul(pure.total(), relu.key.t()) > 0).unsqueeze(1);
                     const auto masking =
                         torch::matmul(torch::matmul(pure.parts, relu.key.t()) * on, relu.value);
                     return (atlas::through_ffn(pure, relu, BiasMode::inside).parts - masking)
                         .abs()
                         .max()
                         .item<double>();
                   }))
      .at_most(1e-10);
  lab.claim("one token: map = |activation - bias part|")
      .paper("")
      .measured(lab.part(
          "one token",
          [] {
            auto one = fresh(architecture("bert", 2, 32, 50, 8), 3, 0.3);
            double gap = 0;
            atlas::attention_maps(
                one, torch::randint(50, {1, 1}, torch::kLong), {},
                [&](int64_t, std::string_view, int64_t, const atlas::Contributions& c) {
                  const auto whole = (c.total() - c.bias).norm(2, -1);
                  gap = std::max(gap, (c.norms().squeeze(1) - whole).abs().max().item<double>());
                });
            return gap;
          }))
      .at_most(1e-5);
}

const char* const measures[] = {
    "attention weights", "attention rollout",           "|alpha f(x)|",    "before the FFN",
    "FFN by Taylor",     "FFN by integrated gradients", "gradient x input"};

/// Works when 4.
void xor_task(study::Lab& lab, const std::string& kind, bool judged) {
  const auto figures = lab.over_seeds("exclusive or, " + kind, [&](uint64_t seed) {
    const auto found = atlas::study_pairs({.model = architecture(kind, 2, 64, 2, 12),
                                           .steps = lab.by_scale(30, 1000, 3000),
                                           .samples = lab.by_scale(4, 50, 200)},
                                          seed);
    std::vector<double> out{found.accuracy, found.rises};
    for (const char* name : measures) {
      const auto& score = found.scores.at(name);
      out.insert(out.end(), {score.share, score.rank, score.agreement});
    }
    return out;
  });
  auto table = lab.table(
      "the pair (i, i - 2) of an exclusive or, " + kind,
      {"measure", "share of the row", "rank in the row", "Spearman with leaving a token out"});
  const auto of = [&](const std::string& name, size_t what) {
    const auto at = std::find(std::begin(measures), std::end(measures), name) - measures;
    return figures[2 + 3 * static_cast<size_t>(at) + what];
  };
  for (const char* name : measures)
    if (std::string_view(name) == "gradient x input")  // the last row only
      table.row(name, "", "", of(name, 2));
    else
      table.row(name, of(name, 0), of(name, 1), of(name, 2));
  table.row("(accuracy of the network)", figures[0], "", "");
  if (!judged) return;
  const auto difference = [&](const char* a, const char* b, size_t what) {
    auto out = of(a, what);
    for (size_t k = 0; k < out.values.size(); ++k) out.values[k] -= of(b, what).values[k];
    return out;
  };
  lab.claim("the true pair's share rises through the FFN that computes it, share of rows (" + kind +
            ")")
      .paper("FFN amplifies compositions")
      .measured(figures[1])
      .in_percent()
      .at_least(0.9);
  lab.claim("attention weights rank the true pair lower than the FFN map, places")
      .paper("")
      .measured(difference("attention weights", "FFN by integrated gradients", 1))
      .at_least(1e-9);
  lab.claim("Spearman with leaving a token out: FFN map minus attention weights")
      .paper("")
      .measured(difference("FFN by integrated gradients", "attention weights", 2))
      .at_least(0.1);
}

/// Layers x {FFN, residual, norm, net, cancel}, mean over texts.
std::vector<std::vector<double>> changes(study::Lab& lab, lm::Transformer& model,
                                         std::span<const int32_t> text) {
  const int64_t context = 64, texts = lab.by_scale(1, 8, 32);
  std::vector<std::vector<double>> out(static_cast<size_t>(model->config.layers),
                                       std::vector<double>(5));
  for (int64_t k = 0; k < texts; ++k) {
    const auto ids = torch::tensor(
        std::vector<int64_t>(text.begin() + k * context, text.begin() + (k + 1) * context));
    const auto maps = atlas::attention_maps(model, ids.unsqueeze(0));
    for (size_t l = 0; l < maps.size(); ++l) {
      const auto c = atlas::layer_change(maps[l], {true, 1});
      const double all[] = {c.ffn, c.residual, c.norm, c.net, c.cancel};
      for (size_t i = 0; i < 5; ++i) out[l][i] += all[i] / static_cast<double>(texts);
    }
  }
  return out;
}

/// Works when 5: what a layer's FFN does, and what remains of it.
void language_models(study::Lab& lab) {
  auto table = lab.table(
      "change of the map by the parts around the FFN (1 - Spearman)",
      {"model", "layer", "by FFN", "by residual", "by norm", "net", "net / FFN", "cancel cosine"});
  const auto report = [&](const std::string& name,
                          const std::vector<std::vector<std::vector<double>>>& seeds) {
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
  if (lab.smoke()) {
    std::vector<int32_t> text(64);
    auto random = lab.random();
    for (auto& id : text) id = static_cast<int32_t>(random.below(64));
    auto model = fresh(architecture("opt", 2, 32, 64, 64), 1);
    return report("random", {changes(lab, model, text)});
  }
  for (const bool post_norm : {false, true}) {
    const std::string name = post_norm ? "post-norm" : "pre-norm";
    std::vector<std::vector<std::vector<double>>> seeds;
    for (const auto seed : lab.seeds()) {
      const auto folder = study::trained_seed(
          lab, seed,
          post_norm ? study::SeedOptions{.steps = 300, .post_norm = true} : study::SeedOptions{});
      if (!folder) return;
      seeds.push_back(lab.part("language model, " + name, seed, [&] {
        auto model = lm::load(*folder);
        return changes(lab, model, atlas::read_text(*folder, 2048, "classics/test", 16'384).ids);
      }));
    }
    report(name + ", trained here", seeds);
  }
  for (const char* name : {"opt-classics", "llama-classics"})
    if (const auto folder = study::find_trained(lab, name))
      report(name, {lab.part(name, [&] {
               auto model = lm::load(*folder);
               return changes(lab, model,
                              atlas::read_text(*folder, 8192, "classics/valid", 16'384).ids);
             })});
}

void run(study::Lab& lab) {
  whole_layers(lab);
  closed_forms(lab);
  xor_task(lab, "opt", true);
  xor_task(lab, "bert", false);
  language_models(lab);
  lab.not_shown("subwords, noun compounds and idioms in BERT and GPT-2",
                "no such checkpoint ships; attention_maps takes any that loads");
}

const auto registered = study::add({.slug = "ff-attention-map"}, run);
}  // namespace
