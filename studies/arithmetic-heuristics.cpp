#include "cajal/atlas/arithmetic_analysis.h"
#include "cajal/core/timing.h"
#include "cajal/study/study.h"

namespace {
using namespace cajal;
using atlas::Operator;
using torch::Tensor;

std::span<const float> row(const Tensor& t, int64_t i) {
  return {t.data_ptr<float>() + i * t.size(1), static_cast<size_t>(t.size(1))};
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

/// Works when 2 to 5: one trained model and all that is asked of it.
std::vector<double> trained(study::Lab& lab, uint64_t seed) {
  atlas::AnalysisOptions options{
      .task = atlas::arithmetic_options(lab.by_scale<int64_t>(12, 1200, 20000)),
      .class_size = lab.by_scale(2, 10, 10)};
  auto& task = options.task;
  if (lab.smoke())
    task.operands = 20, task.max_result = 38, task.width = 32, task.neurons = 64, task.batch = 64;
  task.trainer.evaluate_every = task.trainer.steps / 6;
  atlas::ArithmeticAnalysis analysis(options, seed);

  const auto patching = analysis.patching({0.05, 0.10, 0.15, 0.30});
  const auto& effects = patching.effects;
  auto parts = lab.table(fmt::format("A: indirect effect by part, seed {}", seed),
                         {"layer", "part", "op1", "op", "op2", "="});
  for (int64_t l = 0; l < effects.size(0); ++l)
    for (const bool heads : {true, false}) {
      const auto e = heads ? effects[l].slice(0, 0, -1).sum(0) : effects[l][-1];
      parts.row(l, heads ? "heads" : "FFN", e[0].item<double>(), e[1].item<double>(),
                e[2].item<double>(), e[3].item<double>());
    }
  auto circuit = lab.table(fmt::format("circuit, seed {}", seed), {"kept", "faithfulness"});
  circuit.row(fmt::format("{} of {} heads, all neurons", patching.heads, task.layers * task.heads),
              patching.heads_faithfulness);
  for (const auto& kept : patching.kept) {
    circuit.row(fmt::format("top {:.0f} % of the last two layers' neurons", 100 * kept.share),
                kept.top);
    circuit.row(fmt::format("random {:.0f} %", 100 * kept.share), kept.random);
  }

  const auto rules = analysis.rules();
  auto families =
      lab.table(fmt::format("B: rules of the top neurons, seed {}", seed),
                {"family", "neurons", "mean of best score", "matches on permuted maps"});
  for (const auto& [name, f] : rules.families) families.row(name, f.neurons, f.score, f.permuted);
  families.row("(unexplained)", rules.neurons - rules.matched, "", "");

  const auto lost = analysis.knock_out();
  lab.note(fmt::format(
      "seed {}: {} classes of {} neurons or more; accuracy lost on related prompts "
      "{:.1f} %, on others {:.1f} %",
      seed, lost.classes, options.class_size, 100 * lost.related, 100 * lost.unrelated));
  auto prompts = lab.table(
      fmt::format("D: accuracy with L neurons a layer knocked out for each prompt, seed {}", seed),
      {"L", "those of the prompt's rules", "random top neurons"});
  for (const auto& r : lost.rows) prompts.row(r.most, r.targeted, r.random);

  if (seed == lab.seeds()[0]) {
    const auto probes = analysis.probes(lab.by_scale(100, 3000, 8000), lab.by_scale(5, 40, 100));
    auto readouts =
        lab.table(fmt::format("linear probe for the answer after each layer, seed {}", seed),
                  {"layer", "held-out accuracy at ="});
    for (size_t l = 0; l < probes.size(); ++l) readouts.row(l, probes[l]);
    auto stages = lab.table(fmt::format("emergence, seed {}", seed),
                            {"step", "held-out accuracy", "share of the final neuron-rule pairs",
                             "faithfulness of the shared neurons"});
    for (const auto& s : analysis.emergence())
      stages.row(s.step, s.accuracy, s.shared, s.faithfulness);
  }
  const auto part = [&](int64_t of) {
    return static_cast<double>(of) / static_cast<double>(rules.neurons);
  };
  return {analysis.held_out_accuracy(),  patching.error,      patching.rank_correlation,
          patching.kept[2].top,          part(rules.matched), part(rules.permuted),
          lost.related - lost.unrelated, lost.best_ratio()};
}

void run(study::Lab& lab) {
  planted(lab);
  speed(lab);
  const auto f = lab.over_seeds([&](uint64_t seed) { return trained(lab, seed); });
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
