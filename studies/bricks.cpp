#include <algorithm>
#include <map>
#include <optional>

#include "cajal/core/timing.h"
#include "cajal/data/function_texts.h"
#include "cajal/data/text.h"
#include "cajal/layers/ffn/dense.h"
#include "cajal/models/lm/generate.h"
#include "cajal/study/rows.h"
#include "cajal/study/subject.h"
#include "cajal/surgery/brick_merge.h"
#include "cajal/surgery/brick_parts.h"
#include "cajal/surgery/brick_training.h"
#include "cajal/surgery/edit.h"
#include "cajal/surgery/function_network.h"
#include "cajal/surgery/function_world.h"
#include "cajal/surgery/specialisation.h"

namespace {
using namespace cajal;
using study::Figure;
using study::Row;
using study::Rows;
using surgery::Brick;
using surgery::FunctionWorld;
using Ids = std::vector<int32_t>;

/// The worlds of all seeds; each learns when it is first needed.
class Worlds {
 public:
  explicit Worlds(study::Lab& lab) : lab_(lab) {
    const auto bytes = lab.by_scale<int64_t>(3000, 250'000, 1'000'000);
    for (const std::string name : {"arith", "brackets", "recall", "translate"})
      texts_.push_back({name, surgery::byte_ids(data::function_text(name, bytes, 1))});
    const bool prose = !lab.smoke() && lab.has("classics", "prose as one of the functions");
    const auto last = prose
                          ? data::read_text("classics/valid").substr(0, static_cast<size_t>(bytes))
                          : data::function_text("code", bytes, 2);
    texts_.push_back({prose ? "prose" : "code", surgery::byte_ids(last)});
  }

  const FunctionWorld& at(uint64_t seed) {
    if (!made_.contains(seed))
      made_[seed] = surgery::make_function_world(texts_,
                                                 {.width = lab_.by_scale(32, 128, 256),
                                                  .layers = lab_.by_scale(2, 4, 6),
                                                  .neurons = lab_.by_scale(128, 512, 1024),
                                                  .context = lab_.by_scale(32, 64, 256),
                                                  .steps = lab_.by_scale(3, 400, 4000),
                                                  .learning_rate = 2e-3},
                                                 lab_.by_scale(256, 8192, 65536), seed);
    seed_everything(seed);  // what follows owes nothing to whether the world was there
    return made_[seed];
  }
  size_t functions() const { return texts_.size(); }
  const std::string& function(size_t c) const { return texts_[c].name; }

 private:
  study::Lab& lab_;
  std::vector<surgery::FunctionText> texts_;
  std::map<uint64_t, FunctionWorld> made_;
};

/// A1 on the embedded models: what a token needs of its neurons.
void sparsity(study::Lab& lab, const std::string& name, double bar) {
  if (!lab.smoke() && !study::find_trained(lab, name)) return;
  std::optional<study::Subject> subject;
  const auto added = [&](const std::string& rule, double share, int64_t layer) {
    return lab.part(fmt::format("{}, {} {} {}", name, rule, share, layer), [&] {
      if (!subject) subject = study::find_subject(lab, name);
      auto model = subject->copy();
      const auto tokens =
          std::min<int64_t>(std::ssize(subject->valid), lab.by_scale(512, 4096, 65536));
      lm::Hooks hooks;
      surgery::attach_kept(
          hooks, model, share,
          rule == "random" ? surgery::KeepRule::random : surgery::KeepRule::largest, layer);
      return lm::evaluate(model, Ids(subject->valid.begin(), subject->valid.begin() + tokens),
                          tokens, std::min<int64_t>(256, model->config.context), 8, &hooks)
          .loss();
    });
  };
  const double whole = added("largest", 1, -1);
  auto table = lab.table(name + ": relative loss when each token keeps some of its neurons",
                         {"kept %", "largest", "random"});
  std::map<int, std::pair<double, double>> more;
  for (const int percent : {1, 5, 10, 20, 50}) {
    const auto of = [&](const char* rule) { return added(rule, percent / 100.0, -1) / whole - 1; };
    more[percent] = {of("largest"), of("random")};
    table.row(percent, more[percent].first, more[percent].second);
  }
  auto by_layer = lab.table(name + ": the same at 20 % in one layer", {"layer", "relative loss"});
  const int64_t layers = lab.smoke() ? 2 : name == "opt-classics" ? 8 : 6;
  for (int64_t layer = 0; layer < layers; ++layer)
    by_layer.row(layer, added("largest", 0.2, layer) / whole - 1);
  lab.claim(name + ": loss added by keeping each token's top fifth of neurons")
      .paper("70 to 80 % can be zeroed with small loss")
      .measured(more[20].first)
      .in_percent()
      .at_most(bar);
  lab.claim(name + ": a random fifth costs so many times as much")
      .measured(more[20].second / std::max(1e-9, more[20].first))
      .at_least(10);
}

/// A2: how many neurons are special for a function, under which null.
void specialised(study::Lab& lab, Worlds& worlds) {
  const Rows rows(lab, "specialisation", [&](uint64_t seed) {
    const auto& world = worlds.at(seed);
    std::vector<Row> out;
    std::vector<surgery::FunctionActivity> activity;
    for (auto model : {world.model, world.untrained})
      activity.push_back(surgery::record(model, world.valid, lab.by_scale<int64_t>(64, 1024, 8192),
                                         world.context()));
    for (const bool beyond_ids : {true, false})
      for (const bool by_window : {true, false}) {
        Row row{fmt::format("{}, {} shuffled", beyond_ids ? "beyond the byte" : "norms",
                            by_window ? "windows" : "tokens"),
                {}};
        for (const auto& of : activity)
          row.values.push_back(surgery::specialise(of, {.shuffles = lab.by_scale(10, 100, 200),
                                                        .by_window = by_window,
                                                        .beyond_ids = beyond_ids})
                                   .share());
        out.push_back(row);
      }
    return out;
  });
  rows.write(lab, "share of neurons called specialised for some function",
             {"judged by", "trained", "untrained"});
  lab.claim("neurons called specialised in the untrained model, beyond the byte")
      .measured(rows.at("beyond the byte, windows shuffled", 1))
      .in_percent()
      .at_most(0.05);
}

/// A3, A5: what happens without the neurons of a function.
void pruning(study::Lab& lab, Worlds& worlds) {
  std::vector<std::string> columns{"pruned"};
  for (size_t c = 0; c < worlds.functions(); ++c) columns.push_back(worlds.function(c));
  columns.push_back("own over others");
  const Rows rows(lab, "pruning", [&](uint64_t seed) {
    const auto& world = worlds.at(seed);
    auto model = world.model;
    const auto activity =
        surgery::record(model, world.valid, lab.by_scale<int64_t>(64, 1024, 4096), world.context());
    const auto before = world.test_losses(model);
    const auto functions = std::ssize(before);
    const int64_t count = std::max<int64_t>(1, world.neurons() / 50);
    std::vector<Row> out;
    // Loss added to each function, and own over the mean of the others.
    const auto prune = [&](const std::string& name, const torch::Tensor& neurons, int64_t own) {
      Row row{name, world.test_losses(surgery::pruned(model, neurons))};
      double others = 0, mine = 0;
      for (int64_t c = 0; c < functions; ++c) {
        auto& value = row.values[static_cast<size_t>(c)];
        value -= before[static_cast<size_t>(c)];
        (c == own ? mine : others) += value;
      }
      row.values.push_back(mine / std::max(1e-6, others / static_cast<double>(functions - 1)));
      out.push_back(row);
      return row.values.back();
    };
    std::vector<torch::Tensor> frequency, tops;
    const auto norm = torch::cat(surgery::mean_norms(activity, -1));
    const auto order = norm.argsort(), rank = order.argsort();
    for (int64_t c = 0; c < functions; ++c)
      frequency.push_back(torch::cat(surgery::use_counts(activity, c)));
    const auto all = torch::stack(frequency);
    double specific = 0, random = 0;
    for (int64_t c = 0; c < functions; ++c) {
      const auto& name = world.test[static_cast<size_t>(c)].name;
      const auto others = (all.sum(0) - all[c]) / static_cast<double>(functions - 1);
      tops.push_back(surgery::top_neurons(all[c] - others, count));
      specific += prune(name, tops.back(), c) >= 3 ? 1 : 0;
      const auto any = torch::randperm(world.neurons(), torch::kLong).narrow(0, 0, count);
      random += prune("random, judged for " + name, any.contiguous(), c);
      // As active on average, but no matter on what.
      const auto next = (rank.index_select(0, tops.back()) + 1).clamp_max(world.neurons() - 1);
      prune("of equal activity, judged for " + name, order.index_select(0, next), c);
    }
    for (int64_t a = 0; a < functions; ++a) {  // Jaccard
      Row row{fmt::format("overlap {}", a), {}};
      for (const auto& b : tops) {
        const double both =
            tops[static_cast<size_t>(a)].unsqueeze(0).eq(b.unsqueeze(1)).sum().item<double>();
        row.values.push_back(both / (2.0 * static_cast<double>(count) - both));
      }
      out.push_back(row);
    }
    out.push_back({"functions", {specific, random / static_cast<double>(functions)}});
    return out;
  });
  auto table = lab.table("loss added by pruning 2 % of the neurons", columns);
  plot::HeatMap overlap{.title = "Jaccard overlap of the functions' top neurons"};
  for (size_t c = 0; c < worlds.functions(); ++c) {
    for (const char* of : {"", "random, judged for ", "of equal activity, judged for "}) {
      std::vector<study::Cell> cells{of + worlds.function(c)};
      for (size_t i = 0; i <= worlds.functions(); ++i)
        cells.push_back(rows.at(of + worlds.function(c), i));
      table.add(cells);
    }
    overlap.values.emplace_back();
    for (size_t i = 0; i < worlds.functions(); ++i)
      overlap.values.back().push_back(rows.at(fmt::format("overlap {}", c), i).mean());
  }
  lab.plot(overlap);
  lab.claim("functions of 5 whose own loss suffers at least 3 times as much as the others'")
      .measured(rows.at("functions", 0))
      .at_least(4);
  lab.claim("the same ratio for random neurons")
      .measured(rows.at("functions", 1))
      .between(0.5, 1.5);
}

/// A4: communities of neurons, trained and untrained.
void partitions(study::Lab& lab, Worlds& worlds) {
  std::vector<Figure> extremes(2);
  const Rows rows(lab, "communities", [&](uint64_t seed) {
    const auto& world = worlds.at(seed);
    std::vector<Row> out;
    double least = 1e9, most = 0;
    for (const bool trained : {true, false}) {
      auto model = trained ? world.model : world.untrained;
      const auto activity = surgery::record(model, world.valid,
                                            lab.by_scale<int64_t>(64, 1024, 4096), world.context());
      for (size_t l = 0; l < activity.norms.size(); ++l) {
        const auto c = surgery::communities(activity.norms[l], lab.by_scale(8, 32, 32), 8,
                                            lab.by_scale(4, 20, 50), l);
        if (trained)
          least = std::min(least, c.z());
        else
          most = std::max(most, std::abs(c.z()));
        out.push_back({fmt::format("{}, layer {}", trained ? "trained" : "untrained", l),
                       {c.q, c.null_mean, c.z(), c.within, c.between, c.stability}});
      }
    }
    out.push_back({"z: least trained, largest untrained", {least, most, 0, 0, 0, 0}});
    return out;
  });
  rows.write(lab, "communities of neurons",
             {"model", "Q", "null Q", "z", "correlation within", "between",
              "adjusted Rand of two halves"});
  lab.claim("least z of modularity over layers, trained")
      .measured(rows.at("z: least trained, largest untrained", 0))
      .at_least(5);
  lab.claim("largest |z| of modularity over layers, untrained")
      .measured(rows.at("z: least trained, largest untrained", 1))
      .at_most(2);
}

/// O1: bricks by instruction, and a static part of the network for one function.
void routing(study::Lab& lab, Worlds& worlds) {
  const Rows networks(lab, "networks", [&](uint64_t seed) {
    const auto& world = worlds.at(seed);
    auto model = world.model;
    const int64_t kept = model->config.neurons * 2 / 5;
    const auto activity =
        surgery::record(model, world.train, lab.by_scale<int64_t>(64, 2048, 8192), world.context());
    std::vector<Row> out;
    for (size_t c = 0; c < world.test.size(); ++c) {
      const auto i = static_cast<int64_t>(c);
      surgery::NeuronScores random;
      for (const auto& block : model->blocks)
        random.push_back(torch::rand({block.ffn.groups[0].neurons()}));
      Row row{world.test[c].name, {}};
      const double whole = world.loss(model, world.test[c].ids);
      for (const auto& scores :
           {surgery::mean_norms(activity, i), surgery::wanda_scores(activity, i),
            surgery::use_counts(activity, i), surgery::wanda_scores(activity, -1),
            surgery::weight_sizes(model), random})
        row.values.push_back(
            world.loss(surgery::network_of(model, scores, kept), world.test[c].ids) / whole - 1);
      out.push_back(row);
    }
    Row mean{"mean", std::vector<double>(out[0].values.size())};
    for (const auto& row : out)
      for (size_t i = 0; i < mean.values.size(); ++i)
        mean.values[i] += row.values[i] / static_cast<double>(out.size());
    out.push_back(mean);
    return out;
  });
  networks.write(lab, "relative loss of a task's network of 40 % of the neurons",
                 {"function", "most active", "Wanda on the function", "most often used",
                  "Wanda on all functions", "magnitude", "random"});
  const auto ours = networks.at("mean", 0);
  lab.claim("loss added by a task's network of 40 % of the neurons")
      .measured(ours)
      .in_percent()
      .at_most(0.05);
  lab.claim("the same with random neurons")
      .measured(networks.at("mean", 5))
      .in_percent()
      .at_least(ours.mean());
  lab.claim("the same with the largest weights")
      .measured(networks.at("mean", 4))
      .in_percent()
      .at_least(ours.mean());
  const auto retrieved = lab.over_seeds("retrieval", [&](uint64_t seed) {
    const auto& world = worlds.at(seed);
    auto model = world.model;
    surgery::BrickRegistry keyed;
    for (const auto& text : world.train) {
      Brick brick{.card = {.id = text.name, .kind = surgery::BrickKind::layer, .layer = 0},
                  .tensors = {}};
      brick.tensors["embedding"] = surgery::embed(model, surgery::part(text.ids, 0, 0.05));
      keyed.add(brick);
    }
    int64_t right = 0, asked = 0;
    for (const auto& text : world.test)
      for (int64_t q = 0; q < lab.by_scale(2, 20, 50); ++q, ++asked) {
        const auto begin = static_cast<size_t>(q) * 64 % (text.ids.size() - 64);
        const auto query = surgery::embed(model, std::span(text.ids).subspan(begin, 32));
        right += surgery::retrieve(keyed, model, query, 1).at(0).id == text.name;
      }
    return static_cast<double>(right) / static_cast<double>(asked);
  });
  lab.claim("instructions whose function's brick was retrieved")
      .measured(retrieved)
      .in_percent()
      .at_least(0.8);
}

void network_speed(study::Lab& lab) {
  const auto ratios = lab.part("speed of a network", [&] {
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
    std::vector<double> out;
    for (int i = 0; i < lab.by_scale(25, 120, 120); ++i) {
      const double a = time(whole), b = time(less);
      if (i >= 20) out.push_back(a / b);
    }
    std::sort(out.begin(), out.end());
    return out;
  });
  lab.claim("a task's network of 40 % of the neurons: speed of the FFN")
      .measured(ratios[ratios.size() / 2])
      .at_least(1.5);
}

/// O2: two tasks that the model was not trained on, each as low-rank bricks, merged by every rule.
void merging(study::Lab& lab, Worlds& worlds) {
  const Rows rows(lab, "merging", [&](uint64_t seed) {
    const auto& world = worlds.at(seed);
    const auto bytes = lab.by_scale<int64_t>(4000, 120'000, 400'000);
    const Ids tasks[] = {surgery::byte_ids(data::function_text("code", bytes, seed + 50)),
                         surgery::byte_ids(data::function_text("translate", bytes, seed + 77))};
    const train::TuningOptions tuning{.steps = lab.by_scale<int64_t>(2, 80, 600), .rate = 3e-3};
    const auto batches = [&](const Ids& ids) {
      return train::windows(ids, world.context(), 16, seed);
    };
    std::vector<NamedTensors> deltas;
    std::vector<std::vector<Brick>> bricks;
    for (const auto& task : tasks) {
      bricks.push_back(surgery::train_low_rank("task", world.model,
                                               batches(surgery::part(task, 0, 0.8)),
                                               {.tuning = tuning, .seed = seed}));
      deltas.push_back(surgery::dense_delta(world.model, bricks.back()));
    }
    const auto made_of = [&](const NamedTensors& delta) {
      return surgery::with_bricks(
          world.model, {Brick{.card = {.id = "merged", .kind = surgery::BrickKind::task_vector},
                              .tensors = delta}});
    };
    std::vector<Row> out;
    // Both tasks and their mean, on the part from 0.8 (to choose on) or 0.9 (to judge).
    const auto judge = [&](const lm::Transformer& of, double from) {
      std::vector<double> losses;
      for (const auto& task : tasks)
        losses.push_back(world.loss(of, surgery::part(task, from, from + 0.1)));
      losses.push_back((losses[0] + losses[1]) / 2);
      return losses;
    };
    const auto row = [&](const std::string& name, const lm::Transformer& of) {
      out.push_back({name, judge(of, 0.9)});
    };
    row("base", world.model);
    row("the brick of code alone", surgery::with_bricks(world.model, bricks[0]));
    row("the brick of translate 2 alone", surgery::with_bricks(world.model, bricks[1]));
    for (const auto& [rule, density] : {std::pair{surgery::MergeRule::average, 1.0},
                                        {surgery::MergeRule::arithmetic, 1.0},
                                        {surgery::MergeRule::ties, 0.2},
                                        {surgery::MergeRule::dare, 0.1}}) {
      double best = 1e9;
      lm::Transformer chosen{nullptr};
      for (const double scale : {0.3, 0.5, 0.7, 1.0, 1.5, 2.0}) {
        if (rule == surgery::MergeRule::average && scale != 1) continue;
        const auto made = made_of(surgery::merge_deltas(
            deltas, {.rule = rule, .weights = {scale, scale}, .density = density, .seed = seed}));
        if (const double valid = judge(made, 0.8)[2]; valid < best) best = valid, chosen = made;
      }
      row(to_name(rule), chosen);
    }
    const char* const names[] = {"full tuning on code", "full tuning on translate 2"};
    Ids both;
    for (size_t t = 0; t < 2; ++t) {
      const auto ids = surgery::part(tasks[t], 0, 0.8);
      row(names[t],
          surgery::train_all(world.model, batches(ids), {.steps = tuning.steps, .rate = 1e-3}));
      both.insert(both.end(), ids.begin(), ids.end());
    }
    row("multi-task tuning of all weights",
        surgery::train_all(world.model, batches(both), {.steps = 2 * tuning.steps, .rate = 1e-3}));
    // One brick is what training left, whichever way it is merged.
    const auto ids = torch::arange(world.context(), torch::kLong).unsqueeze(0);
    const torch::NoGradGuard no_grad;
    const auto folded = surgery::with_bricks(world.model, bricks[0])->forward(ids);
    const auto summed = made_of(deltas[0])->forward(ids);
    out.push_back({"exact", {((folded - summed).abs().max() / summed.abs().max()).item<double>()}});
    return out;
  });
  auto table =
      lab.table("two new tasks, losses in nats a byte", {"model", "code", "translate 2", "mean"});
  for (const char* name : {"base", "the brick of code alone", "the brick of translate 2 alone",
                           "average", "arithmetic", "ties", "dare", "full tuning on code",
                           "full tuning on translate 2", "multi-task tuning of all weights"})
    table.row(name, rows.at(name, 0), rows.at(name, 1), rows.at(name, 2));
  lab.claim("one brick folded in two ways: relative difference of logits")
      .measured(rows.at("exact"))
      .at_most(1e-6);
  lab.claim("mean loss saved by task arithmetic or TIES over plain averaging")
      .measured(rows.at("average", 2).mean() -
                std::min(rows.at("arithmetic", 2).mean(), rows.at("ties", 2).mean()))
      .at_least(1e-6);
}

/// O3: names and letters that the model is told, one after another.
void editing(study::Lab& lab, Worlds& worlds) {
  const auto edits = lab.by_scale<int64_t>(2, 50, 50);
  const Rows rows(lab, "editing", [&](uint64_t seed) {
    const auto& world = worlds.at(seed);
    Random random(seed, 9);
    const auto name = [&] {
      std::string out = "code of ";
      for (int i = 0; i < 8; ++i) out += static_cast<char>('a' + random.below(26));
      return surgery::byte_ids(out + " is ");
    };
    auto model = world.model;
    std::vector<surgery::Fact> facts, others;
    Ids all_facts, calibration;
    for (int64_t i = 0; i < edits; ++i) {
      facts.push_back({name(), static_cast<int32_t>('A' + random.below(26))});
      others.push_back({name(), 0});
      others.back().answer = surgery::likeliest(model, others.back().prompt);
      const auto& [prompt, answer] = facts.back();
      all_facts.insert(all_facts.end(), prompt.begin(), prompt.end());
      all_facts.push_back(answer), all_facts.push_back('\n');
    }
    for (const auto& one : world.train) {
      const auto some = surgery::part(one.ids, 0, lab.by_scale(0.5, 0.05, 0.2));
      calibration.insert(calibration.end(), some.begin(), some.end());
    }
    surgery::EditOptions options{.layer = model->config.layers / 2,
                                 .steps = lab.by_scale<int64_t>(3, 25, 25)};
    if (!lab.smoke())
      options.prefixes = {{}, surgery::byte_ids("note: "), surgery::byte_ids("they say that the ")};
    const auto edited =
        surgery::edit_in_turn(model, facts,
                              surgery::second_moment(model, options.layer, calibration,
                                                     std::ssize(calibration), world.context()),
                              options);
    const double before = world.mean_test_loss(model);
    const auto score = [&](const std::string& method, const lm::Transformer& of) {
      return Row{method,
                 {surgery::share_said(of, facts),
                  surgery::share_said(of, facts, surgery::byte_ids("as everyone knows, the ")),
                  1 - surgery::share_said(of, others), world.mean_test_loss(of) / before - 1}};
    };
    const auto length = lab.by_scale<int64_t>(16, 64, 64);
    const auto reverted = surgery::materialise(model, edited.registry, {});
    return std::vector<Row>{
        score("rank-one edits", surgery::materialise(model, edited.registry, edited.configuration)),
        score("tuning all weights on the facts",
              surgery::train_all(model, train::windows(all_facts, length, 16, seed),
                                 {.steps = lab.by_scale<int64_t>(2, 40, 40), .rate = 1e-3})),
        {"exact",
         {edited.largest_error,
          surgery::content_hash(reverted) == surgery::content_hash(surgery::own_copy(model))
              ? 1.0
              : 0.0}}};
  });
  auto table = lab.table(fmt::format("{} facts, one after another", edits),
                         {"method", "said", "said after another beginning", "neighbours changed",
                          "relative loss on other text"});
  for (const char* name : {"rank-one edits", "tuning all weights on the facts"})
    table.row(name, rows.at(name, 0), rows.at(name, 1), rows.at(name, 2), rows.at(name, 3));
  lab.claim("edits: largest error of W'k* = v*").measured(rows.at("exact", 0)).at_most(1e-4);
  lab.claim("edits that still hold after all")
      .measured(rows.at("rank-one edits", 0))
      .in_percent()
      .at_least(0.9);
  lab.claim("edits: loss added on other text")
      .measured(rows.at("rank-one edits", 3))
      .in_percent()
      .at_most(0.02);
  lab.claim("edits taken back: share of runs with the same bytes")
      .measured(rows.at("exact", 1))
      .at_least(1);
}

/// O4: new neurons for a new task.
void growing(study::Lab& lab, Worlds& worlds) {
  const Rows rows(lab, "growing", [&](uint64_t seed) {
    const auto& world = worlds.at(seed);
    const auto ids = surgery::byte_ids(
        data::function_text("code", lab.by_scale<int64_t>(4000, 120'000, 400'000), seed + 50));
    const auto batch = train::windows(surgery::part(ids, 0, 0.8), world.context(), 16, seed);
    std::vector<Brick> born;
    for (int64_t layer = 0; layer < world.model->config.layers; ++layer)
      born.push_back(surgery::grown_neurons(fmt::format("new/{}", layer), world.model, layer,
                                            lab.by_scale(4, 64, 64)));
    const auto window =
        torch::tensor(world.test[0].ids).to(torch::kLong).narrow(0, 0, 32).view({1, 32});
    const auto logits = [&](lm::Transformer of) {
      const torch::NoGradGuard no_grad;
      return of->forward(window);
    };
    const auto change = logits(surgery::with_bricks(world.model, born)) - logits(world.model);
    const auto steps = lab.by_scale<int64_t>(2, 100, 600);
    const auto grown =
        surgery::train_neurons(born, world.model, batch, {.steps = steps, .rate = 2e-3});
    const auto tuned = surgery::train_all(world.model, batch, {.steps = steps, .rate = 1e-3});
    const auto test = surgery::part(ids, 0.9, 1);
    const double fresh = world.loss(world.model, test), old = world.mean_test_loss(world.model);
    const auto row = [&](const std::string& name, const lm::Transformer& of) {
      const double loss = world.loss(of, test);
      return Row{name, {loss, 1 - loss / fresh, world.mean_test_loss(of) / old - 1}};
    };
    return std::vector<Row>{
        row("before", world.model),
        row("64 new neurons a layer, all else frozen", surgery::with_bricks(world.model, grown)),
        row("full tuning", tuned),
        {"birth", {change.abs().max().item<double>()}}};
  });
  auto table = lab.table("a new task in new neurons", {"model", "loss on the new task",
                                                       "taken away", "relative loss on old text"});
  for (const char* name : {"before", "64 new neurons a layer, all else frozen", "full tuning"})
    table.row(name, rows.at(name, 0), rows.at(name, 1), rows.at(name, 2));
  const char* const grown = "64 new neurons a layer, all else frozen";
  lab.claim("grown neurons at birth: largest change of a logit")
      .measured(rows.at("birth"))
      .at_most(1e-6);
  lab.claim("grown neurons: loss on the new task taken away")
      .measured(rows.at(grown, 1))
      .in_percent()
      .at_least(0.2);
  lab.claim("grown neurons: loss added on old text")
      .measured(rows.at(grown, 2))
      .in_percent()
      .at_most(0.01);
}

void run(study::Lab& lab) {
  sparsity(lab, "opt-classics", 0.02);
  sparsity(lab, "llama-classics", 0.05);
  Worlds worlds(lab);
  specialised(lab, worlds);
  pruning(lab, worlds);
  partitions(lab, worlds);
  routing(lab, worlds);
  network_speed(lab);
  merging(lab, worlds);
  editing(lab, worlds);
  growing(lab, worlds);
  lab.not_shown("Llama-3 and Mistral figures", "their weights do not ship; the calls take them");
  lab.not_shown("token-level rivals (MoEfication, Deja Vu, PowerInfer, TEAL, CATS)",
                "they stand in the tables of the studies ffsplit and moefication");
}

const auto registered = study::add({.slug = "bricks"}, run);

}  // namespace
