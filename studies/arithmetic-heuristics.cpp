#include <algorithm>
#include <map>
#include <set>

#include "cajal/atlas/arithmetic.h"
#include "cajal/atlas/circuit.h"
#include "cajal/atlas/probe.h"
#include "cajal/core/timing.h"
#include "cajal/math/ranks.h"
#include "cajal/study/study.h"

namespace {
using namespace cajal;
using atlas::HeuristicMatch;
using atlas::Operator;
using torch::Tensor;

std::vector<int64_t> list(const Tensor& t) {
  const auto c = t.to(torch::kLong).contiguous();
  return {c.data_ptr<int64_t>(), c.data_ptr<int64_t>() + c.numel()};
}
Tensor tensor(const std::vector<int64_t>& v) { return torch::tensor(v, torch::kLong); }
std::span<const float> row(const Tensor& t, int64_t i) {
  return {t.data_ptr<float>() + i * t.size(1), static_cast<size_t>(t.size(1))};
}
Tensor permuted(const Tensor& maps) {
  return maps.index_select(1, torch::randperm(maps.size(1))).contiguous();
}

/// Works when 1: neurons that follow one known rule each, and none.
void planted(study::Lab& lab) {
  const auto grid = atlas::pair_grid(Operator::add, 0, 100, 198);
  const atlas::HeuristicScorer scorer(grid);
  auto random = lab.random(1);
  const int64_t neurons = lab.by_scale(32, 256, 256);
  auto rules = scorer.fixed();
  using F = atlas::HeuristicFamily;
  using O = atlas::HeuristicOf;
  for (const char* pattern : {"..3", ".4.", ".47"})
    for (const auto of : {O::op1, O::op2, O::result})
      rules.push_back({F::pattern, of, 0, 0, pattern, {}});
  // k of a value rule is the number of operands: only results of about as many pairs can score.
  for (const auto of : {O::op1, O::op2, O::result}) rules.push_back({F::value, of, 99, 0, {}, {}});
  int64_t right = 0, wrong = 0;
  std::vector<float> map(static_cast<size_t>(grid.size()));
  for (int64_t n = 0; n < neurons; ++n) {
    const auto& rule = rules[random.below(rules.size())];
    for (size_t p = 0; p < map.size(); ++p)
      map[p] = static_cast<float>(rule.holds(grid.x[p], grid.y[p], grid.result[p]) +
                                  0.1 * random.normal());
    const auto found = scorer.matches(map, false);
    right += !found.empty() && scorer.pairs_of(found[0].heuristic) == scorer.pairs_of(rule);
    for (auto& a : map) a = static_cast<float>(random.normal());
    wrong += !scorer.matches(map, false).empty();
  }
  lab.claim("planted rules under 10 % noise: right family and parameter")
      .paper("")
      .measured(static_cast<double>(right) / static_cast<double>(neurons))
      .in_percent()
      .at_least(0.98);
  lab.claim("random maps that match a rule")
      .paper("")
      .measured(static_cast<double>(wrong) / static_cast<double>(neurons))
      .in_percent()
      .at_most(0.01);
}

/// Works when 6: the scorer's speed.
void speed(study::Lab& lab) {
  const auto grid = atlas::pair_grid(Operator::add, 0, lab.by_scale(60, 300, 300), 998);
  const atlas::HeuristicScorer scorer(grid);
  const int64_t neurons = lab.by_scale(4, 1000, 1000), slow = lab.by_scale(1, 4, 4);
  const auto maps = torch::randn({neurons, grid.size()});
  ThreadPool threads;
  const Stopwatch watch;
  threads.parallel_for(neurons, 1, [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; ++n) scorer.matches(row(maps, n), false);
  });
  const double seconds = watch.seconds();
  const Stopwatch slow_watch;  // one thread
  double sink = 0;
  for (int64_t n = 0; n < slow; ++n) {
    const auto order = atlas::by_activation(row(maps, n));
    for (const auto& rule : scorer.fixed())
      sink += atlas::naive_score(grid, rule, std::ssize(scorer.pairs_of(rule)), order);
  }
  const Stopwatch one_watch;
  for (int64_t n = 0; n < slow; ++n) sink += scorer.score(row(maps, n), false)[0].score;
  const double one = one_watch.seconds(), naive = slow_watch.seconds() - one;
  lab.claim(fmt::format("{} maps of {} pairs against all {} rules, seconds", neurons, grid.size(),
                        scorer.fixed().size()))
      .paper("")
      .measured(seconds)
      .at_most(60);
  lab.claim("times faster than a compiled loop over rules and pairs, one thread")
      .paper("")
      .measured(naive / one)
      .at_least(20);
  if (sink < 0) lab.note("unreachable");
}

struct Neuron {
  int64_t layer, neuron;
  std::vector<HeuristicMatch> rules = {};
};

/// One trained model and all that is asked of it.
class Analysis {
 public:
  Analysis(study::Lab& lab, uint64_t seed)
      : lab_(lab),
        seed_(seed),
        options_(atlas::arithmetic_options(lab.by_scale<int64_t>(12, 1200, 20000))) {
    if (lab.smoke())
      options_.operands = 20, options_.max_result = 38, options_.width = 32, options_.neurons = 64,
      options_.batch = 64;
    options_.trainer.evaluate_every = options_.trainer.steps / 6;
    task_ = atlas::arithmetic_task(options_, seed);
    model_ = atlas::train_arithmetic(
        options_, task_, seed,
        [&](int64_t step, lm::Transformer& model) { snapshot(step, model); });
    const auto right = atlas::right_pairs(model_, task_, task_.held_out);
    accuracy = static_cast<double>(right.size(0)) / static_cast<double>(task_.held_out.size(0));
    right_ = atlas::right_pairs(model_, task_, torch::arange(task_.grid.size()));
    scorer_.emplace(task_.grid);
    const torch::NoGradGuard no_grad;
    means_ = atlas::means(atlas::record(model_, task_.ids, atlas::circuit_points()).values);
    // 50 prompts with operands above 5 and results above 2, each with another answer.
    std::set<int64_t> answers;
    for (const auto p : list(right_)) {
      const auto i = static_cast<size_t>(p);
      if (std::ssize(prompts_) < 50 && task_.grid.x[i] > 5 && task_.grid.y[i] > 5 &&
          task_.grid.result[i] > 2 && answers.insert(task_.grid.result[i]).second)
        prompts_.push_back(p);
    }
    if (prompts_.empty()) prompts_ = {0, 1, 2};
    const auto pairs = tensor(prompts_), others = atlas::counterfactuals(task_, pairs, seed);
    ids_ = task_.ids.index_select(0, pairs), answers_ = task_.answers.index_select(0, pairs);
    source_ = task_.ids.index_select(0, others),
    source_answers_ = task_.answers.index_select(0, others);
  }

  void patching(std::vector<double>& figures) {
    const auto metric = effect(1);
    const auto scores =
        atlas::attribution_patching(model_, ids_, source_, {"blocks.*.mlp.hook_post"}, metric);
    const torch::NoGradGuard no_grad;
    const auto effects = atlas::patching_effects(model_, ids_, source_, metric);
    auto table = lab_.table(fmt::format("A: indirect effect by part, seed {}", seed_),
                            {"layer", "part", "op1", "op", "op2", "="});
    for (int64_t l = 0; l < effects.size(0); ++l)
      for (int64_t part : {int64_t(-1), effects.size(1) - 1}) {
        const auto e = part < 0 ? effects[l].slice(0, 0, -1).sum(0) : effects[l][part];
        table.row(l, part < 0 ? "heads" : "FFN", e[0].item<double>(), e[1].item<double>(),
                  e[2].item<double>(), e[3].item<double>());
      }
    std::vector<double> exact, estimate;
    double worst = 0;
    for (int64_t l = 0; l < options_.layers; ++l) {
      const auto point = fmt::format("blocks.{}.mlp.hook_post", l);
      const auto score = scores.at(point).select(1, -1).abs().mean(0);  // [neurons]
      ranking_.push_back(score.argsort(-1, true));
      const auto from = atlas::record(model_, source_, {point}).values.begin()->second;
      const auto own = atlas::record(model_, ids_, {point}).values.begin()->second;
      // The dead ones have no effect either way: the ranking is judged on the stronger half.
      const auto units = list(ranking_.back().slice(0, 0, options_.neurons / 2));
      const auto each = atlas::patch_each(model_, ids_, from, point, units, -1,
                                          [&](int64_t copies) { return effect(copies); });
      for (size_t k = 0; k < units.size(); ++k) {
        exact.push_back(each[static_cast<int64_t>(k)].abs().mean().item<double>());
        estimate.push_back(score[units[k]].item<double>());
        if (k % 64) continue;  // a naive loop: one neuron, one pass
        lm::Hooks hooks;
        hooks.add(point, [&](std::string_view, const Tensor& value) {
          auto changed = value.clone();
          changed.select(1, -1).select(1, units[k]).copy_(from.select(1, -1).select(1, units[k]));
          return changed;
        });
        const auto alone = metric(model_->forward(ids_, {.hooks = &hooks}));
        worst = std::max(worst, ((alone - each[static_cast<int64_t>(k)]).abs().max() /
                                 alone.abs().max().clamp_min(1))
                                    .item<double>());
      }
    }
    figures.push_back(worst);
    figures.push_back(math::spearman(exact, estimate));
    auto heads = atlas::grow_heads(model_, ids_, answers_, means_, effects, 0.9);
    auto table_f = lab_.table(fmt::format("circuit, seed {}", seed_), {"kept", "faithfulness"});
    table_f.row(fmt::format("{} of {} heads, all neurons", heads.heads.size(),
                            options_.layers * options_.heads),
                heads.faithfulness.back());
    for (const double share : {0.05, 0.10, 0.15, 0.30}) {
      const auto faithful = [&](bool top) {
        auto circuit = atlas::whole_circuit(model_->config);
        const auto kept = static_cast<int64_t>(share * static_cast<double>(options_.neurons));
        for (int64_t l = options_.layers - 2; l < options_.layers; ++l) {
          auto& mask = circuit.neurons[static_cast<size_t>(l)];
          const auto& order = ranking_[static_cast<size_t>(l)];
          mask.zero_().index_fill_(
              0,
              top ? order.slice(0, 0, kept) : torch::randperm(options_.neurons).slice(0, 0, kept),
              true);
        }
        return atlas::faithfulness(model_, ids_, answers_, circuit, means_);
      };
      const double top = faithful(true);
      if (share == 0.15) figures.push_back(top);
      table_f.row(fmt::format("top {:.0f} % of the last two layers' neurons", 100 * share), top);
      table_f.row(fmt::format("random {:.0f} %", 100 * share), faithful(false));
    }
  }

  void classify(std::vector<double>& figures) {
    const auto kept = std::max<int64_t>(1, options_.neurons * 15 / 100);
    std::map<std::string, std::array<double, 3>> families;  // neurons, sum of scores, null matches
    int64_t matched = 0, null = 0, all = 0;
    for (int64_t l = options_.layers - 2; l < options_.layers; ++l) {
      const auto top = ranking_[static_cast<size_t>(l)].slice(0, 0, kept);
      const auto maps = atlas::activation_maps(model_, task_, l, top);
      const auto shuffled = permuted(maps.activations), shuffled_effects = permuted(maps.effects);
      for (int64_t k = 0; k < kept; ++k, ++all) {
        Neuron neuron{
            l, top[k].item<int64_t>(),
            scorer_->hybrid_matches(row(maps.activations, k), row(maps.effects, k), false)};
        matched += !neuron.rules.empty();
        std::set<std::string> seen;
        for (const auto& m : neuron.rules)
          if (seen.insert(family(m)).second)
            families[family(m)][0] += 1, families[family(m)][1] += m.score;
        const auto none =
            scorer_->hybrid_matches(row(shuffled, k), row(shuffled_effects, k), false);
        null += !none.empty();
        for (const auto& m : none) families[family(m)][2] += 1;
        neurons_.push_back(std::move(neuron));
      }
    }
    auto table =
        lab_.table(fmt::format("B: rules of the top neurons, seed {}", seed_),
                   {"family", "neurons", "mean of best score", "matches on permuted maps"});
    for (const auto& [name, f] : families) table.row(name, f[0], f[0] ? f[1] / f[0] : 0, f[2]);
    table.row("(unexplained)", all - matched, "", "");
    figures.push_back(static_cast<double>(matched) / static_cast<double>(all));
    figures.push_back(static_cast<double>(null) / static_cast<double>(all));
  }

  void knock_out(std::vector<double>& figures) {
    std::map<std::string, std::vector<const Neuron*>> classes;
    std::map<std::string, atlas::Heuristic> rule;
    for (const auto& neuron : neurons_)
      for (const auto& m : neuron.rules)
        classes[m.heuristic.name()].push_back(&neuron), rule[m.heuristic.name()] = m.heuristic;
    double related_drop = 0, unrelated_drop = 0;
    int64_t count = 0;
    for (const auto& [name, members] : classes) {
      if (std::ssize(members) < lab_.by_scale(2, 10, 10)) continue;
      std::vector<int64_t> related, unrelated;
      for (const auto p : list(right_.index_select(0, torch::randperm(right_.size(0))))) {
        const auto i = static_cast<size_t>(p);
        auto& side = rule.at(name).holds(task_.grid.x[i], task_.grid.y[i], task_.grid.result[i])
                         ? related
                         : unrelated;
        if (side.size() < 100) side.push_back(p);
      }
      unrelated.resize(std::min(unrelated.size(), related.size()));
      if (unrelated.empty()) continue;
      lm::Hooks hooks;
      for (const auto* n : members)
        atlas::ablate(hooks,
                      {fmt::format("blocks.{}.mlp.hook_post", n->layer), {}, {}, {n->neuron}},
                      atlas::Ablate::zero);
      related_drop += 1 - accuracy_of(tensor(related), &hooks),
          unrelated_drop += 1 - accuracy_of(tensor(unrelated), &hooks), ++count;
    }
    const auto n = static_cast<double>(std::max<int64_t>(1, count));
    lab_.note(
        fmt::format("seed {}: {} classes of 10 neurons or more; accuracy lost on related prompts "
                    "{:.1f} %, on others {:.1f} %",
                    seed_, count, 100 * related_drop / n, 100 * unrelated_drop / n));
    figures.push_back((related_drop - unrelated_drop) / n);

    auto table = lab_.table(
        fmt::format("D: accuracy with L neurons a layer knocked out for each prompt, seed {}",
                    seed_),
        {"L", "those of the prompt's rules", "random top neurons"});
    const auto sample = right_.index_select(0, torch::randperm(right_.size(0)).slice(0, 0, 200));
    double best = 0;
    for (const int64_t most : {0, 2, 5, 10, 20}) {
      const double targeted = prompt_accuracy(sample, most, true),
                   random = prompt_accuracy(sample, most, false);
      table.row(most, targeted, random);
      if (most) best = std::max(best, (1 - targeted) / std::max(0.005, 1 - random));
    }
    figures.push_back(best);
  }

  /// Emergence: rules of earlier steps that the trained model has too. Probe: the first layer that
  /// a linear readout finds the answer in.
  void growth_and_probe() {
    std::set<std::string> final;
    for (const auto& n : neurons_)
      for (const auto& m : n.rules)
        final.insert(fmt::format("{}.{}.{}", n.layer, n.neuron, m.heuristic.name()));
    auto table = lab_.table(fmt::format("emergence, seed {}", seed_),
                            {"step", "held-out accuracy", "share of the final neuron-rule pairs",
                             "faithfulness of the shared neurons"});
    for (auto& [step, weights] : snapshots_) {
      const torch::NoGradGuard no_grad;
      swap_in(weights);
      int64_t shared = 0;
      auto circuit = atlas::whole_circuit(model_->config);
      for (int64_t l = options_.layers - 2; l < options_.layers; ++l)
        circuit.neurons[static_cast<size_t>(l)].zero_();
      for (const auto& n : neurons_) {
        const auto maps = atlas::activation_maps(model_, task_, n.layer, tensor({n.neuron}));
        bool any = false;
        for (const auto& m :
             scorer_->hybrid_matches(row(maps.activations, 0), row(maps.effects, 0), false)) {
          const bool same =
              final.count(fmt::format("{}.{}.{}", n.layer, n.neuron, m.heuristic.name())) > 0;
          shared += same, any |= same;
        }
        if (any) circuit.neurons[static_cast<size_t>(n.layer)][n.neuron] = true;
      }
      const auto means =
          atlas::means(atlas::record(model_, task_.ids, atlas::circuit_points()).values);
      table.row(
          step,
          static_cast<double>(atlas::right_pairs(model_, task_, task_.held_out).size(0)) /
              static_cast<double>(task_.held_out.size(0)),
          static_cast<double>(shared) / static_cast<double>(std::max<size_t>(1, final.size())),
          atlas::faithfulness(model_, ids_, answers_, circuit, means));
    }
    auto probes =
        lab_.table(fmt::format("linear probe for the answer after each layer, seed {}", seed_),
                   {"layer", "held-out accuracy at ="});
    const auto some = task_.train.slice(0, 0, lab_.by_scale(100, 3000, 8000));
    for (int64_t l = 0; l < options_.layers; ++l) {
      const torch::NoGradGuard no_grad;
      const auto point = fmt::format("blocks.{}.hook_resid_post", l);
      const auto x = atlas::record(model_, task_.ids, {point}).values.begin()->second.select(1, -1);
      const auto probe = atlas::fit_classes(x.index_select(0, some),
                                            task_.answers.index_select(0, some), task_.vocabulary,
                                            {.l2 = 1e-4, .iterations = lab_.by_scale(5, 40, 100)});
      probes.row(l, probe.accuracy(x.index_select(0, task_.held_out),
                                   task_.answers.index_select(0, task_.held_out)));
    }
  }

  double accuracy = 0;

 private:
  static std::string family(const HeuristicMatch& m) {
    return fmt::format("{} {}", to_name(m.heuristic.of), to_name(m.heuristic.family));
  }

  atlas::Metric effect(int64_t copies) {
    const torch::NoGradGuard no_grad;
    return atlas::indirect_effect(model_->forward(ids_).repeat({copies, 1, 1}),
                                  answers_.repeat({copies}), source_answers_.repeat({copies}));
  }
  double accuracy_of(const Tensor& pairs, lm::Hooks* hooks) {
    return atlas::answer_accuracy(model_, task_.ids.index_select(0, pairs),
                                  task_.answers.index_select(0, pairs), hooks);
  }
  double prompt_accuracy(const Tensor& pairs, int64_t most, bool targeted) {
    lm::Hooks hooks;
    for (int64_t l = options_.layers - 2; l < options_.layers; ++l) {
      auto mask = torch::zeros({pairs.size(0), 1, options_.neurons}, torch::kBool);
      for (int64_t b = 0; b < pairs.size(0); ++b) {
        const auto p = pairs[b].item<int64_t>();
        const auto i = static_cast<size_t>(p);
        std::vector<std::pair<int64_t, int64_t>> ranked;  // rules that apply, neuron
        std::vector<int64_t> any;
        for (const auto& n : neurons_) {
          if (n.layer != l) continue;
          any.push_back(n.neuron);
          int64_t rules = 0;
          for (const auto& m : n.rules)
            rules += m.heuristic.holds(task_.grid.x[i], task_.grid.y[i], task_.grid.result[i]);
          if (rules) ranked.emplace_back(-rules, n.neuron);
        }
        std::sort(ranked.begin(), ranked.end());
        const auto count = std::min<size_t>(static_cast<size_t>(most), ranked.size());
        const auto order = list(torch::randperm(std::ssize(any)));
        for (size_t k = 0; k < count; ++k)
          mask[b][0][targeted ? ranked[k].second : any[static_cast<size_t>(order[k])]] = true;
      }
      const auto point = fmt::format("blocks.{}.mlp.hook_post", l);
      atlas::patch(hooks, point, mask, torch::zeros({1}));
    }
    return accuracy_of(pairs, &hooks);
  }

  void snapshot(int64_t step, lm::Transformer& model) {
    if (!snapshots_.empty() && snapshots_.back().first == step) return;
    std::vector<Tensor> copy;
    for (const auto& p : model->parameters()) copy.push_back(p.detach().clone());
    snapshots_.emplace_back(step, std::move(copy));
  }
  void swap_in(const std::vector<Tensor>& weights) {
    size_t i = 0;
    for (auto& p : model_->parameters()) p.detach().copy_(weights[i++]);
  }

  study::Lab& lab_;
  uint64_t seed_;
  atlas::ArithmeticOptions options_;
  atlas::ArithmeticTask task_;
  std::vector<std::pair<int64_t, std::vector<Tensor>>> snapshots_;
  lm::Transformer model_{nullptr};
  std::optional<atlas::HeuristicScorer> scorer_;
  atlas::Recording means_;
  Tensor right_, ids_, answers_, source_, source_answers_;
  std::vector<int64_t> prompts_;
  std::vector<Tensor> ranking_;  // neurons by attribution score, a layer
  std::vector<Neuron> neurons_;
};

void run(study::Lab& lab) {
  planted(lab);
  speed(lab);
  const auto f = lab.over_seeds([&](uint64_t seed) {
    Analysis a(lab, seed);
    std::vector<double> figures{a.accuracy};
    a.patching(figures);
    a.classify(figures);
    a.knock_out(figures);
    if (seed == lab.seeds()[0]) a.growth_and_probe();
    return figures;
  });
  lab.claim("held-out accuracy of the trained model")
      .paper("")
      .measured(f[0])
      .in_percent()
      .at_least(0.95);
  lab.claim("batched exact patching against a loop over neurons, relative")
      .paper("")
      .measured(f[1])
      .at_most(1e-5);
  lab.claim("attribution against exact patching, Spearman").paper("").measured(f[2]).at_least(0.8);
  lab.claim("faithfulness with the top 15 % of the last two layers' neurons")
      .paper("96 % with 1.5 % (Llama3-8B)")
      .measured(f[3])
      .at_least(0.9);
  lab.claim("top neurons that match a rule at 0.6")
      .paper("91 %")
      .measured(f[4])
      .in_percent()
      .at_least(0.6);
  lab.claim("the same on permuted maps").paper("").measured(f[5]).in_percent().at_most(0.05);
  lab.claim("knock-out of a class: related minus unrelated drop")
      .paper("29 % vs 16 %")
      .measured(f[6])
      .in_percent()
      .at_least(0.1);
  lab.claim("knock-out for a prompt: times the accuracy that random top neurons cost, best L")
      .paper("far more")
      .measured(f[7])
      .at_least(2);
  lab.not_shown("Llama3, Pythia and GPT-J", "their weights do not ship");
}

const auto registered = study::add({.slug = "arithmetic-heuristics"}, run);
}  // namespace
