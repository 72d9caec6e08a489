#include <algorithm>
#include <cmath>
#include <functional>
#include <map>

#include "cajal/core/progress.h"
#include "cajal/core/timing.h"
#include "cajal/data/function_texts.h"
#include "cajal/data/text.h"
#include "cajal/layers/ffn/dense.h"
#include "cajal/models/lm/generate.h"
#include "cajal/study/subject.h"
#include "cajal/surgery/brick_configuration.h"
#include "cajal/surgery/brick_merge.h"
#include "cajal/surgery/brick_parts.h"
#include "cajal/surgery/brick_training.h"
#include "cajal/surgery/edit.h"
#include "cajal/surgery/functions.h"
#include "cajal/surgery/split.h"
#include "cajal/train/small_language.h"

namespace {
using namespace cajal;
using study::Figure;
using surgery::Brick;
using surgery::FunctionText;
using Ids = std::vector<int32_t>;

Ids bytes_of(const std::string& text) {
  Ids out;
  for (const char c : text) out.push_back(static_cast<unsigned char>(c));
  return out;
}

Ids part(const Ids& ids, double from, double to) {
  const auto at = [&](double share) {
    return static_cast<std::ptrdiff_t>(share * static_cast<double>(ids.size()));
  };
  return {ids.begin() + at(from), ids.begin() + at(to)};
}

/// A model trained on a mixture of functions, and its texts: 80 % to train, 10 % to choose on, 10 %
/// to judge.
class World {
 public:
  World(study::Lab& lab, const std::map<std::string, Ids>& texts, uint64_t seed)
      : trained_({.width = lab.by_scale(32, 128, 256),
                  .layers = lab.by_scale(2, 4, 6),
                  .neurons = lab.by_scale(128, 512, 1024),
                  .context = lab.by_scale(32, 128, 256),
                  .steps = lab.by_scale(3, 500, 4000),
                  .learning_rate = 2e-3},
                 seed, torch::kCPU),
        untrained(surgery::own_copy(trained_.model)) {
    Ids all;
    for (const auto& [name, ids] : texts) {
      const auto train = part(ids, 0, 0.8);
      all.insert(all.end(), train.begin(), train.end());
      this->train.push_back({name, train});
      valid.push_back({name, part(ids, 0.8, 0.9)}), test.push_back({name, part(ids, 0.9, 1)});
    }
    trained_.fit(torch::tensor(all).to(torch::kByte));
    model = surgery::own_copy(trained_.model);
  }

  int64_t context() const { return model->config.context; }
  int64_t neurons() const { return model->config.layers * model->config.neurons; }
  double loss(lm::Transformer of, const Ids& ids, lm::Hooks* hooks = nullptr) const {
    return lm::evaluate(of, ids, std::ssize(ids), context(), 32, hooks).loss();
  }
  std::vector<double> losses(const lm::Transformer& of,
                             const std::vector<FunctionText>& texts) const {
    std::vector<double> out;
    for (const auto& text : texts) out.push_back(loss(of, text.ids));
    return out;
  }

 private:
  train::SmallLanguageModel trained_;

 public:
  lm::Transformer untrained, model{nullptr};
  std::vector<FunctionText> train, valid, test;
};

double mean(const std::vector<double>& values) { return Figure(values).mean(); }

train::TuningBatch batches(const Ids& ids, int64_t length, uint64_t seed) {
  const auto all = torch::tensor(ids).to(torch::kLong);
  return [=](int64_t step) {
    Random random(seed, static_cast<uint64_t>(step));
    std::vector<torch::Tensor> rows;
    for (int b = 0; b < 16; ++b)
      rows.push_back(all.narrow(
          0, static_cast<int64_t>(random.below(static_cast<uint64_t>(all.size(0) - length))),
          length + 1));
    const auto window = torch::stack(rows);
    return std::pair{window.narrow(1, 0, length).contiguous(),
                     window.narrow(1, 1, length).contiguous()};
  };
}

/// A1 on the embedded models: what a token needs of its neurons.
void sparsity(study::Lab& lab, const std::string& name, double bar) {
  const auto subject = study::find_subject(lab, name);
  if (!subject) return;
  auto model = subject->model;
  const auto tokens = std::min<int64_t>(std::ssize(subject->valid), lab.by_scale(512, 4096, 65536));
  const Ids ids(subject->valid.begin(), subject->valid.begin() + tokens);
  const auto loss = [&](double share, surgery::KeepRule rule, int64_t layer) {
    lm::Hooks hooks;
    surgery::attach_kept(hooks, model, share, rule, layer);
    return lm::evaluate(model, ids, tokens, std::min<int64_t>(256, model->config.context), 8,
                        &hooks)
        .loss();
  };
  const double whole = loss(1, surgery::KeepRule::largest, -1);
  auto table = lab.table(name + ": relative loss when each token keeps some of its neurons",
                         {"kept %", "largest", "random"});
  std::map<int, std::pair<double, double>> more;
  for (const int percent : {1, 5, 10, 20, 50}) {
    const auto of = [&](surgery::KeepRule rule) {
      return loss(percent / 100.0, rule, -1) / whole - 1;
    };
    more[percent] = {of(surgery::KeepRule::largest), of(surgery::KeepRule::random)};
    table.row(percent, more[percent].first, more[percent].second);
  }
  auto by_layer = lab.table(name + ": the same at 20 % in one layer", {"layer", "relative loss"});
  for (int64_t layer = 0; layer < model->config.layers; ++layer)
    by_layer.row(layer, loss(0.2, surgery::KeepRule::largest, layer) / whole - 1);
  lab.claim(name + ": loss added by keeping each token's top fifth of neurons")
      .paper("70 to 80 % can be zeroed with small loss")
      .measured(more[20].first)
      .in_percent()
      .at_most(bar);
  lab.claim(name + ": a random fifth costs so many times as much")
      .measured(more[20].second / std::max(1e-9, more[20].first))
      .at_least(10);
}

/// What the runs of all seeds found, by claim.
using Found = std::map<std::string, std::vector<double>>;

/// A2, A3, A5: which neurons belong to a function, and what happens without them.
void functions(study::Lab& lab, const World& world, Found& found, bool first) {
  const auto tokens = lab.by_scale<int64_t>(64, 1024, 4096);
  auto model = world.model, fresh = world.untrained;
  const auto activity = surgery::record(model, world.valid, tokens, world.context());
  const auto special = surgery::specialise(activity, lab.by_scale(10, 200, 200));
  const auto null = surgery::specialise(
      surgery::record(fresh, world.valid, tokens, world.context()), lab.by_scale(10, 200, 200));
  const auto share = [](const surgery::Specialisation& s) {
    return s.special.any(0).to(torch::kDouble).mean().item<double>();
  };
  found["special"].push_back(share(special)), found["special untrained"].push_back(share(null));

  const int64_t count = std::max<int64_t>(1, world.neurons() / 50);
  const auto before = world.losses(model, world.test);
  std::vector<std::string> columns{"pruned"};
  for (const auto& text : world.test) columns.push_back(text.name);
  columns.push_back("own over others");
  std::vector<std::vector<study::Cell>> rows;
  // Own loss added over the mean that is added elsewhere.
  const auto prune = [&](const std::string& name, const torch::Tensor& neurons, size_t own) {
    const auto after = world.losses(surgery::pruned(model, neurons), world.test);
    std::vector<study::Cell> row{name};
    double others = 0;
    for (size_t c = 0; c < after.size(); ++c) {
      row.push_back(after[c] - before[c]);
      if (c != own) others += (after[c] - before[c]) / static_cast<double>(after.size() - 1);
    }
    const double ratio = (after[own] - before[own]) / std::max(1e-6, others);
    row.push_back(ratio);
    rows.push_back(row);
    return ratio;
  };
  const auto all_norms = torch::cat(activity.norms, 1).mean(0);
  int64_t specific = 0;
  std::vector<double> random_ratios;
  std::vector<torch::Tensor> tops;
  for (size_t c = 0; c < world.test.size(); ++c) {
    const auto i = static_cast<int64_t>(c);
    const auto others = (special.frequency.sum(0) - special.frequency[i]) /
                        static_cast<double>(world.test.size() - 1);
    tops.push_back(surgery::top_neurons(special.frequency[i] - others, count));
    specific += prune(world.test[c].name, tops.back(), c) >= 3;
    random_ratios.push_back(
        prune("random, judged for " + world.test[c].name,
              torch::randperm(world.neurons(), torch::kLong).narrow(0, 0, count).contiguous(), c));
    // As active on average, but no matter on what.
    const auto order = all_norms.argsort();
    const auto rank = order.argsort();
    prune("of equal activity, judged for " + world.test[c].name,
          order.index_select(
              0, (rank.index_select(0, tops.back()) + 1).clamp_max(world.neurons() - 1)),
          c);
  }
  found["specific"].push_back(static_cast<double>(specific));
  found["random ratio"].push_back(mean(random_ratios));
  if (!first) return;
  auto table = lab.table("loss added by pruning 2 % of the neurons (first seed)", columns);
  for (auto& row : rows) table.add(row);
  plot::HeatMap overlap{.title = "Jaccard overlap of the functions' top neurons"};
  for (const auto& a : tops) {
    overlap.values.emplace_back();
    for (const auto& b : tops) {
      const double both = a.unsqueeze(0).eq(b.unsqueeze(1)).sum().item<double>();
      overlap.values.back().push_back(both / (2.0 * static_cast<double>(count) - both));
    }
  }
  lab.plot(overlap);
}

/// A4: communities of neurons, trained and untrained.
void partitions(study::Lab& lab, const World& world, Found& found, bool first) {
  const auto tokens = lab.by_scale<int64_t>(64, 1024, 4096);
  std::vector<std::vector<study::Cell>> rows;
  for (const bool trained : {true, false}) {
    auto model = trained ? world.model : world.untrained;
    const auto activity = surgery::record(model, world.valid, tokens, world.context());
    double least = 1e9, most = 0;
    for (size_t l = 0; l < activity.norms.size(); ++l) {
      const auto c = surgery::communities(activity.norms[l], lab.by_scale(8, 32, 32), 8,
                                          lab.by_scale(4, 20, 50), l);
      least = std::min(least, c.z()), most = std::max(most, std::abs(c.z()));
      rows.push_back({trained ? "trained" : "untrained", static_cast<double>(l), c.q, c.null_mean,
                      c.z(), c.within, c.between, c.stability});
    }
    found[trained ? "z" : "z untrained"].push_back(trained ? least : most);
  }
  if (!first) return;
  auto table = lab.table("communities of neurons (first seed)",
                         {"model", "layer", "Q", "null Q", "z", "correlation within", "between",
                          "adjusted Rand of two halves"});
  for (auto& row : rows) table.add(row);
}

/// O1: bricks by instruction, and a static part of the network for one function.
void routing(study::Lab& lab, const World& world, Found& found, bool first) {
  auto model = world.model;
  const int64_t kept = model->config.neurons * 2 / 5;
  const auto activity =
      surgery::record(model, world.train, lab.by_scale<int64_t>(64, 2048, 8192), world.context());
  const auto hash = surgery::content_hash(model);
  surgery::BrickRegistry registry;
  const auto network = [&](const std::string& name,
                           const std::function<torch::Tensor(size_t)>& score) {
    surgery::Configuration out{.base = hash, .active = {}, .rest_removed = true};
    for (size_t l = 0; l < activity.norms.size(); ++l) {
      Brick brick{.card = {.id = fmt::format("{}/{}", name, l),
                           .kind = surgery::BrickKind::neurons,
                           .layer = static_cast<int64_t>(l),
                           .module = "",
                           .tags = {},
                           .base = hash},
                  .tensors = {}};
      brick.tensors["index"] = surgery::top_neurons(score(l), kept).contiguous();
      registry.add(brick);
      out.active.push_back({brick.card.id, 1});
    }
    return surgery::materialise(model, registry, out);
  };
  std::vector<std::vector<study::Cell>> rows;
  std::vector<double> added, random_added, weight_added;
  for (size_t c = 0; c < world.test.size(); ++c) {
    const auto& name = world.test[c].name;
    const auto mine = activity.function.eq(static_cast<int64_t>(c)).nonzero().squeeze(1);
    const double whole = world.loss(model, world.test[c].ids);
    const auto judged = [&](const lm::Transformer& less) {
      return world.loss(less, world.test[c].ids) / whole - 1;
    };
    added.push_back(judged(
        network(name, [&](size_t l) { return activity.norms[l].index_select(0, mine).mean(0); })));
    random_added.push_back(judged(
        network("random-" + name, [&](size_t) { return torch::rand({model->config.neurons}); })));
    weight_added.push_back(judged(network("weights-" + name, [&](size_t l) {
      const auto rows_of = surgery::neuron_rows(model->blocks[l].ffn);
      return rows_of.key.norm(2, 1) * rows_of.value.norm(2, 1);
    })));
    rows.push_back({name, added.back(), random_added.back(), weight_added.back()});
  }
  found["network"].push_back(mean(added));
  found["network random"].push_back(mean(random_added));
  found["network weights"].push_back(mean(weight_added));

  surgery::BrickRegistry keyed;
  for (const auto& text : world.train) {
    Brick brick{.card = {.id = text.name, .kind = surgery::BrickKind::layer, .layer = 0},
                .tensors = {}};
    brick.tensors["embedding"] = surgery::embed(model, part(text.ids, 0, 0.05));
    keyed.add(brick);
  }
  int64_t right = 0, asked = 0;
  for (const auto& text : world.test)
    for (int64_t q = 0; q < lab.by_scale(2, 20, 50); ++q, ++asked) {
      const auto begin = static_cast<size_t>(q) * 64 % (text.ids.size() - 64);
      const auto query = surgery::embed(model, std::span(text.ids).subspan(begin, 32));
      right += surgery::retrieve(keyed, model, query, 1).at(0).id == text.name;
    }
  found["retrieved"].push_back(static_cast<double>(right) / static_cast<double>(asked));
  if (!first) return;
  auto table = lab.table("relative loss of a task's network of 40 % of the neurons (first seed)",
                         {"function", "most active", "random", "largest weights"});
  for (auto& row : rows) table.add(row);
}

void network_speed(study::Lab& lab) {
  const int64_t width = 128, neurons = 512, kept = neurons * 2 / 5;
  const DenseFeedForward whole(DenseFeedForwardOptions{.width = width, .neurons = neurons});
  const DenseFeedForward less(DenseFeedForwardOptions{.width = width, .neurons = kept});
  const auto x = torch::randn({4096, width});
  const torch::NoGradGuard no_grad;
  const auto time = [&](const DenseFeedForward& of) {
    const Stopwatch clock;
    of->forward(x);
    return clock.seconds();
  };
  std::vector<double> ratios;
  for (int i = 0; i < lab.by_scale(5, 120, 120); ++i) {
    const double a = time(whole), b = time(less);
    if (i >= 20 || lab.smoke()) ratios.push_back(a / b);
  }
  std::sort(ratios.begin(), ratios.end());
  lab.claim("a task's network of 40 % of the neurons: speed of the FFN")
      .measured(ratios[ratios.size() / 2])
      .at_least(1.5);
}

lm::Transformer with(const World& world, const std::vector<Brick>& bricks) {
  surgery::BrickRegistry registry;
  surgery::Configuration all;
  for (const auto& brick : bricks) registry.add(brick), all.active.push_back({brick.card.id, 1});
  return surgery::materialise(world.model, registry, all);
}

/// O2: two tasks that the model was not trained on, each as low-rank bricks, merged by every rule.
void merging(study::Lab& lab, const World& world, uint64_t seed, Found& found, bool first) {
  const auto bytes = lab.by_scale<int64_t>(4000, 120'000, 400'000);
  const FunctionText tasks[] = {
      {"code", bytes_of(data::function_text("code", bytes, seed + 50))},
      {"translate 2", bytes_of(data::function_text("translate", bytes, seed + 77))}};
  const train::TuningOptions tuning{.steps = lab.by_scale<int64_t>(2, 80, 600), .rate = 3e-3};
  std::vector<NamedTensors> deltas;
  std::vector<std::vector<Brick>> bricks;
  for (const auto& task : tasks) {
    bricks.push_back(surgery::train_low_rank("task", world.model,
                                             batches(part(task.ids, 0, 0.8), world.context(), seed),
                                             {.tuning = tuning, .seed = seed}));
    deltas.push_back(surgery::dense_delta(world.model, bricks.back()));
  }
  const auto made_of = [&](const NamedTensors& delta) {
    Brick vector{.card = {.id = "merged", .kind = surgery::BrickKind::task_vector},
                 .tensors = delta};
    return with(world, {vector});
  };
  const auto judge = [&](const lm::Transformer& of, double from, double to) {
    std::vector<double> out;
    for (const auto& task : tasks) out.push_back(world.loss(of, part(task.ids, from, to)));
    return out;
  };
  // One brick is what training left, whichever way it is merged.
  const auto ids = torch::arange(world.context(), torch::kLong).unsqueeze(0);
  const torch::NoGradGuard no_grad;
  const auto folded = with(world, bricks[0])->forward(ids);
  const auto summed = made_of(deltas[0])->forward(ids);
  found["exact"].push_back(((folded - summed).abs().max() / summed.abs().max()).item<double>());

  std::vector<std::pair<std::string, std::vector<double>>> rows;
  rows.emplace_back("base", judge(world.model, 0.9, 1));
  rows.emplace_back("the brick of code alone", judge(with(world, bricks[0]), 0.9, 1));
  rows.emplace_back("the brick of translate 2 alone", judge(with(world, bricks[1]), 0.9, 1));
  const auto merged = [&](surgery::MergeRule rule, std::vector<double> scales, double density) {
    double best = 1e9;
    std::vector<double> result;
    for (const double scale : scales) {
      const auto made = made_of(surgery::merge_deltas(
          deltas, {.rule = rule, .weights = {scale, scale}, .density = density, .seed = seed}));
      if (const double valid = mean(judge(made, 0.8, 0.9)); valid < best)
        best = valid, result = judge(made, 0.9, 1);
    }
    rows.emplace_back(to_name(rule), result);
    return mean(result);
  };
  const std::vector<double> scales{0.3, 0.5, 0.7, 1, 1.5, 2};
  const double average = merged(surgery::MergeRule::average, {1}, 1);
  const double arithmetic = merged(surgery::MergeRule::arithmetic, scales, 1);
  const double ties = merged(surgery::MergeRule::ties, scales, 0.2);
  merged(surgery::MergeRule::dare, scales, 0.1);
  found["merge"].push_back(average - std::min(arithmetic, ties));
  {
    torch::AutoGradMode enabled(true);
    Ids both = part(tasks[0].ids, 0, 0.8);
    const auto second = part(tasks[1].ids, 0, 0.8);
    for (const auto& task : tasks)
      rows.emplace_back(
          "full tuning on " + task.name,
          judge(surgery::train_all(world.model,
                                   batches(part(task.ids, 0, 0.8), world.context(), seed),
                                   {.steps = tuning.steps, .rate = 1e-3}),
                0.9, 1));
    both.insert(both.end(), second.begin(), second.end());
    rows.emplace_back("multi-task tuning of all weights",
                      judge(surgery::train_all(world.model, batches(both, world.context(), seed),
                                               {.steps = 2 * tuning.steps, .rate = 1e-3}),
                            0.9, 1));
  }
  if (!first) return;
  auto table = lab.table("two new tasks, losses in nats a byte (first seed)",
                         {"model", tasks[0].name, tasks[1].name, "mean"});
  for (const auto& [name, values] : rows) table.row(name, values[0], values[1], mean(values));
}

/// O3: names and letters that the model is told, one after another.
void editing(study::Lab& lab, const World& world, uint64_t seed, Found& found, bool first) {
  const auto edits = lab.by_scale<int64_t>(2, 50, 50);
  Random random(seed, 9);
  const auto name = [&] {
    std::string out = "code of ";
    for (int i = 0; i < 8; ++i) out += static_cast<char>('a' + random.below(26));
    return out + " is ";
  };
  std::vector<surgery::Fact> facts, others;
  for (int64_t i = 0; i < edits; ++i) {
    facts.push_back({bytes_of(name()), static_cast<int32_t>('A' + random.below(26))});
    others.push_back({bytes_of(name()), 0});
  }
  const int64_t layer = world.model->config.layers / 2;
  surgery::EditOptions options{.layer = layer, .steps = lab.by_scale<int64_t>(3, 25, 25)};
  if (!lab.smoke()) options.prefixes = {{}, bytes_of("note: "), bytes_of("they say that the ")};
  auto model = surgery::own_copy(world.model);
  auto start = surgery::own_copy(world.model);
  // Some of the text of every function.
  Ids calibration;
  for (const auto& one : world.train) {
    const auto some = part(one.ids, 0, lab.by_scale(0.5, 0.05, 0.2));
    calibration.insert(calibration.end(), some.begin(), some.end());
  }
  const auto moment =
      surgery::second_moment(model, layer, calibration, std::ssize(calibration), world.context());
  for (auto& fact : others) fact.answer = surgery::likeliest(model, fact.prompt);
  surgery::BrickRegistry registry;
  surgery::Configuration all;
  double worst = 0;
  for (int64_t i = 0; i < edits; ++i) {
    const auto& fact = facts[static_cast<size_t>(i)];
    const auto key = surgery::fact_key(model, fact, options);
    const auto change = surgery::fact_change(model, fact, options);
    const auto brick =
        surgery::rank_one(fmt::format("fact-{}", i), model, layer, key, change, moment);
    const torch::NoGradGuard no_grad;
    const auto written = [&] {
      return surgery::matrix_at(model, layer, "ffn.value")
          .apply(key.to(torch::kFloat).unsqueeze(0))
          .squeeze(0);
    };
    const auto wanted = written() + change;
    surgery::apply_low_rank(model, brick);
    worst = std::max(worst, (written() - wanted).abs().max().item<double>());
    registry.add(brick), all.active.push_back({brick.card.id, 1});
  }
  const auto score = [&](lm::Transformer of) {
    double said = 0, paraphrased = 0, kept = 0;
    const auto prefix = bytes_of("as everyone knows, the ");
    for (int64_t i = 0; i < edits; ++i) {
      const auto& fact = facts[static_cast<size_t>(i)];
      auto longer = prefix;
      longer.insert(longer.end(), fact.prompt.begin(), fact.prompt.end());
      if (std::ssize(longer) > world.context()) longer = fact.prompt;
      said += surgery::likeliest(of, fact.prompt) == fact.answer;
      paraphrased += surgery::likeliest(of, longer) == fact.answer;
      const auto& other = others[static_cast<size_t>(i)];
      kept += surgery::likeliest(of, other.prompt) == other.answer;
    }
    const double before = mean(world.losses(world.model, world.test));
    const double after = mean(world.losses(of, world.test));
    const auto n = static_cast<double>(edits);
    return std::vector<double>{said / n, paraphrased / n, 1 - kept / n, after / before - 1};
  };
  const auto edited = score(surgery::materialise(world.model, registry, all));
  Ids all_facts;
  for (const auto& fact : facts) {
    all_facts.insert(all_facts.end(), fact.prompt.begin(), fact.prompt.end());
    all_facts.push_back(fact.answer), all_facts.push_back('\n');
  }
  const auto tuned =
      score(surgery::train_all(world.model, batches(all_facts, lab.by_scale(16, 64, 64), seed),
                               {.steps = lab.by_scale<int64_t>(2, 40, 40), .rate = 1e-3}));
  const auto reverted = surgery::materialise(world.model, registry, {});
  found["edit worst"].push_back(worst), found["edit success"].push_back(edited[0]);
  found["edit damage"].push_back(edited[3]);
  found["reverted"].push_back(surgery::content_hash(reverted) == surgery::content_hash(start));
  if (!first) return;
  auto table = lab.table(fmt::format("{} facts, one after another (first seed)", edits),
                         {"method", "said", "said after another beginning", "neighbours changed",
                          "relative loss on other text"});
  table.row("rank-one edits", edited[0], edited[1], edited[2], edited[3]);
  table.row("tuning all weights on the facts", tuned[0], tuned[1], tuned[2], tuned[3]);
}

/// O4: new neurons for a new task.
void growing(study::Lab& lab, const World& world, uint64_t seed, Found& found, bool first) {
  const auto ids = bytes_of(
      data::function_text("code", lab.by_scale<int64_t>(4000, 120'000, 400'000), seed + 50));
  const auto batch = batches(part(ids, 0, 0.8), world.context(), seed);
  const auto test = part(ids, 0.9, 1);
  std::vector<Brick> born;
  for (int64_t layer = 0; layer < world.model->config.layers; ++layer)
    born.push_back(surgery::grown_neurons(fmt::format("new/{}", layer), world.model, layer,
                                          lab.by_scale(4, 64, 64)));
  const auto window =
      torch::tensor(world.test[0].ids).to(torch::kLong).narrow(0, 0, 32).view({1, 32});
  {
    const torch::NoGradGuard no_grad;
    const auto a = with(world, born)->forward(window);
    auto before = world.model;
    const auto b = before->forward(window);
    found["birth"].push_back((a - b).abs().max().item<double>());
  }
  const auto grown = surgery::train_neurons(
      born, world.model, batch, {.steps = lab.by_scale<int64_t>(2, 100, 600), .rate = 2e-3});
  const auto tuned = surgery::train_all(
      world.model, batch, {.steps = lab.by_scale<int64_t>(2, 100, 600), .rate = 1e-3});
  const double old = mean(world.losses(world.model, world.test));
  const auto row = [&](const lm::Transformer& of) {
    return std::vector<double>{world.loss(of, test), mean(world.losses(of, world.test)) / old - 1};
  };
  const auto a = row(world.model), b = row(with(world, grown)), c = row(tuned);
  found["learnt"].push_back(1 - b[0] / a[0]), found["forgotten"].push_back(b[1]);
  if (!first) return;
  auto table = lab.table("a new task in new neurons (first seed)",
                         {"model", "loss on the new task", "relative loss on old text"});
  table.row("before", a[0], a[1]), table.row("64 new neurons a layer, all else frozen", b[0], b[1]);
  table.row("full tuning", c[0], c[1]);
}

void claims(study::Lab& lab, Found& found) {
  const auto claim = [&](const char* text, const char* key) {
    return lab.claim(text).measured(Figure(found[key]));
  };
  claim("functions of 5 whose own loss suffers at least 3 times as much as the others'", "specific")
      .at_least(4);
  claim("the same ratio for random neurons", "random ratio").between(0.5, 1.5);
  claim("least z of modularity over layers, trained", "z").at_least(5);
  claim("largest |z| of modularity over layers, untrained", "z untrained").at_most(2);
  claim("loss added by a task's network of 40 % of the neurons", "network")
      .in_percent()
      .at_most(0.05);
  claim("the same with random neurons", "network random")
      .in_percent()
      .at_least(Figure(found["network"]).mean());
  claim("the same with the largest weights", "network weights")
      .in_percent()
      .at_least(Figure(found["network"]).mean());
  claim("instructions whose function's brick was retrieved", "retrieved")
      .in_percent()
      .at_least(0.8);
  claim("one brick folded in two ways: relative difference of logits", "exact").at_most(1e-6);
  claim("mean loss saved by task arithmetic or TIES over plain averaging", "merge").at_least(1e-6);
  claim("edits: largest error of W'k* = v*", "edit worst").at_most(1e-4);
  claim("edits that still hold after all", "edit success").in_percent().at_least(0.9);
  claim("edits: loss added on other text", "edit damage").in_percent().at_most(0.02);
  claim("edits taken back: share of runs with the same bytes", "reverted").at_least(1);
  claim("grown neurons at birth: largest change of a logit", "birth").at_most(1e-6);
  claim("grown neurons: loss on the new task taken away", "learnt").in_percent().at_least(0.2);
  claim("grown neurons: loss added on old text", "forgotten").in_percent().at_most(0.01);
  claim("neurons called specialised in the untrained model (trained: see the note)",
        "special untrained")
      .in_percent()
      .at_most(0.05);
  lab.note(fmt::format("Called specialised in the trained model: {}, in the untrained one: {}.",
                       study::text(Figure(found["special"]), true),
                       study::text(Figure(found["special untrained"]), true)));
}

void run(study::Lab& lab) {
  sparsity(lab, "opt-classics", 0.02);
  sparsity(lab, "llama-classics", 0.05);
  const auto bytes = lab.by_scale<int64_t>(3000, 250'000, 1'000'000);
  std::map<std::string, Ids> texts;
  for (const std::string name : {"arith", "brackets", "recall", "translate"})
    texts[name] = bytes_of(data::function_text(name, bytes, 1));
  if (lab.smoke() || !lab.has("classics", "prose as one of the functions")) {
    texts["prose"] = bytes_of(data::function_text("code", bytes, 2));
  } else {
    texts["prose"] =
        bytes_of(data::read_text("classics/valid").substr(0, static_cast<size_t>(bytes)));
  }
  Found found;
  Progress progress("bricks", std::ssize(lab.seeds()), "seed");
  for (const uint64_t seed : lab.seeds()) {
    const World world(lab, texts, seed);
    torch::manual_seed(static_cast<int64_t>(seed));
    const bool first = seed == lab.seeds().front();
    functions(lab, world, found, first);
    partitions(lab, world, found, first);
    routing(lab, world, found, first);
    merging(lab, world, seed, found, first);
    editing(lab, world, seed, found, first);
    growing(lab, world, seed, found, first);
    progress.add(1);
  }
  network_speed(lab);
  claims(lab, found);
  lab.not_shown("Llama-3 and Mistral figures", "their weights do not ship; the calls take them");
  lab.not_shown("token-level rivals (MoEfication, Deja Vu, PowerInfer, TEAL, CATS)",
                "they stand in the tables of the studies ffsplit and moefication");
}

const auto registered = study::add({.slug = "bricks"}, run);

}  // namespace
