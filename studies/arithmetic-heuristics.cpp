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

/// Works when 1: neurons that follow one known rule each, and none. Shares of the planted ones that
/// are named rightly and of random maps that match anything.
std::vector<double> plant(study::Lab& lab) {
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
  const auto all = static_cast<double>(neurons);
  return {static_cast<double>(right) / all, static_cast<double>(wrong) / all};
}

void planted(study::Lab& lab) {
  const auto share = lab.part("planted rules", [&] { return plant(lab); });
  lab.claim("planted rules under 10 % noise: right family and parameter")
      .paper("")
      .measured(share[0])
      .in_percent()
      .at_least(0.98);
  lab.claim("random maps that match a rule")
      .paper("")
      .measured(share[1])
      .in_percent()
      .at_most(0.01);
}

/// Works when 6: the scorer's speed. Seconds for all maps, how many times faster than the loop, and
/// the numbers of neurons, pairs and rules.
std::vector<double> measure_speed(study::Lab& lab) {
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
  double sink = 0;
  const Stopwatch slow_watch;  // one thread
  for (int64_t n = 0; n < slow; ++n) {
    const auto order = atlas::by_activation(row(maps, n), scorer.mixed());
    for (const auto& rule : scorer.fixed())
      sink += atlas::naive_score(grid, rule, std::ssize(scorer.pairs_of(rule)), order);
  }
  const double naive = slow_watch.seconds();
  const Stopwatch one_watch;
  for (int64_t n = 0; n < slow; ++n) sink += scorer.score(row(maps, n), false)[0].score;
  const double one = one_watch.seconds();
  require(std::isfinite(sink), "speed: a score is not finite");
  return {seconds, naive / one, static_cast<double>(neurons), static_cast<double>(grid.size()),
          static_cast<double>(scorer.fixed().size())};
}

void speed(study::Lab& lab) {
  const auto f = lab.part("speed", [&] { return measure_speed(lab); });
  lab.claim(fmt::format("{} maps of {} pairs against all {} rules, seconds", f[2], f[3], f[4]))
      .paper("")
      .measured(f[0])
      .at_most(60);
  lab.claim("times faster than a compiled loop over rules and pairs, one thread")
      .paper("")
      .measured(f[1])
      .at_least(20);
}

struct Family {
  std::string name;
  double neurons = 0, score = 0, permuted = 0;
};
CAJAL_OPTIONS(Family, name, neurons, score, permuted)

/// What is asked of one trained model: its figures, and the rows of its tables.
struct Trained {
  study::Figure figures;
  std::vector<std::vector<double>> effects;  // layer, whether heads, effect at each position
  std::vector<std::vector<double>> circuit;  // share of neurons, faithfulness of top and random
  std::vector<Family> families;
  std::vector<std::vector<double>> prompts;  // most neurons a layer, accuracy without, random
  std::vector<double> probes;
  std::vector<std::vector<double>> stages;  // step, accuracy, shared pairs, faithfulness
  std::string classes;
};
CAJAL_OPTIONS(Trained, figures, effects, circuit, families, prompts, probes, stages, classes)

Trained train(study::Lab& lab, uint64_t seed) {
  atlas::AnalysisOptions options{
      .task = atlas::arithmetic_options(lab.by_scale<int64_t>(12, 1600, 20000)),
      .class_size = lab.by_scale(2, 10, 10)};
  auto& task = options.task;
  if (lab.smoke())
    task.operands = 20, task.max_result = 38, task.width = 32, task.neurons = 64, task.batch = 64;
  task.trainer.evaluate_every = task.trainer.steps / 6;
  atlas::ArithmeticAnalysis analysis(options, seed);
  Trained out;
  const auto patching = analysis.patching({0.05, 0.10, 0.15, 0.30});
  for (int64_t l = 0; l < patching.effects.size(0); ++l)
    for (const bool heads : {true, false}) {
      const auto& of = patching.effects[l];
      const auto e = (heads ? of.slice(0, 0, -1).sum(0) : of[-1]).to(torch::kDouble).contiguous();
      auto& cells =
          out.effects.emplace_back(std::vector<double>{static_cast<double>(l), heads ? 1.0 : 0.0});
      cells.insert(cells.end(), e.data_ptr<double>(), e.data_ptr<double>() + 4);
    }
  out.circuit.push_back({static_cast<double>(patching.heads), patching.heads_faithfulness});
  for (const auto& k : patching.kept) out.circuit.push_back({k.share, k.top, k.random});
  const auto rules = analysis.rules();
  for (const auto& [name, f] : rules.families)
    out.families.push_back(
        {name, static_cast<double>(f.neurons), f.score, static_cast<double>(f.permuted)});
  out.families.push_back({"(unexplained)", static_cast<double>(rules.neurons - rules.matched)});
  const auto lost = analysis.knock_out();
  out.classes = fmt::format(
      "seed {}: {} classes of {} neurons or more; accuracy lost on related prompts "
      "{:.1f} %, on others {:.1f} %",
      seed, lost.classes, options.class_size, 100 * lost.related, 100 * lost.unrelated);
  for (const auto& r : lost.rows)
    out.prompts.push_back({static_cast<double>(r.most), r.targeted, r.random});
  if (seed == lab.seeds()[0]) {
    out.probes = analysis.probes(lab.by_scale(100, 3000, 8000), lab.by_scale(5, 40, 100));
    for (const auto& s : analysis.emergence())
      out.stages.push_back({static_cast<double>(s.step), s.accuracy, s.shared, s.faithfulness});
  }
  const auto part = [&](int64_t of) {
    return static_cast<double>(of) / static_cast<double>(rules.neurons);
  };
  out.figures.values = {analysis.held_out_accuracy(),  patching.error,
                        patching.rank_correlation,     patching.kept[2].top,
                        part(rules.matched),           part(rules.permuted),
                        lost.related - lost.unrelated, lost.best_ratio()};
  return out;
}

void add(study::TableWriter table, const std::vector<std::vector<double>>& rows) {
  for (const auto& row : rows) table.add({row.begin(), row.end()});
}

void write_tables(study::Lab& lab, const Trained& found, uint64_t seed) {
  const auto of_seed = [&](const char* name) { return fmt::format("{}, seed {}", name, seed); };
  auto parts =
      lab.table(of_seed("A: indirect effect by part"), {"layer", "part", "op1", "op", "op2", "="});
  for (const auto& e : found.effects)
    parts.row(e[0], e[1] > 0 ? "heads" : "FFN", e[2], e[3], e[4], e[5]);
  auto circuit = lab.table(of_seed("circuit"), {"kept", "faithfulness"});
  circuit.row(fmt::format("{} heads, all neurons", found.circuit[0][0]), found.circuit[0][1]);
  for (size_t k = 1; k < found.circuit.size(); ++k) {
    const auto& c = found.circuit[k];
    circuit.row(fmt::format("top {:.0f} % of the last two layers' neurons", 100 * c[0]), c[1]);
    circuit.row(fmt::format("random {:.0f} %", 100 * c[0]), c[2]);
  }
  auto families =
      lab.table(of_seed("B: rules of the top neurons"),
                {"family", "neurons", "mean of best score", "matches on permuted maps"});
  for (const auto& f : found.families)
    if (f.name.starts_with('('))
      families.row(f.name, f.neurons, "", "");
    else
      families.row(f.name, f.neurons, f.score, f.permuted);
  lab.note(found.classes);
  add(lab.table(of_seed("D: accuracy with L neurons a layer knocked out for each prompt"),
                {"L", "those of the prompt's rules", "random top neurons"}),
      found.prompts);
  if (found.probes.empty()) return;
  auto probes = lab.table(of_seed("linear probe for the answer after each layer"),
                          {"layer", "held-out accuracy at ="});
  for (size_t l = 0; l < found.probes.size(); ++l) probes.row(l, found.probes[l]);
  add(lab.table(of_seed("emergence"),
                {"step", "held-out accuracy", "share of the final neuron-rule pairs",
                 "faithfulness of the shared neurons"}),
      found.stages);
}

void run(study::Lab& lab) {
  planted(lab);
  speed(lab);
  std::vector<study::Figure> f(8);
  for (const auto seed : lab.seeds()) {
    const auto found = lab.part("trained", seed, [&] { return train(lab, seed); });
    for (size_t k = 0; k < f.size(); ++k) f[k].values.push_back(found.figures.values[k]);
    write_tables(lab, found, seed);
  }
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
