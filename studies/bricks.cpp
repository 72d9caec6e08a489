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
#include "cajal/surgery/brick_operations.h"
#include "cajal/surgery/moefy.h"
#include "cajal/surgery/predictor.h"
#include "cajal/surgery/sparsity.h"

namespace {
using namespace cajal;
using study::Figure;
using study::Row;
using study::Rows;
using surgery::FunctionWorld;
using Ids = std::vector<int32_t>;

/// The worlds of all seeds; each learns when it is first needed.
class Worlds {
 public:
  explicit Worlds(study::Lab& lab) : lab_(lab) {
    const auto bytes = lab.by_scale<int64_t>(3000, 250'000, 1'000'000);
    const bool prose = !lab.smoke() && lab.has("classics", "prose as one of the functions");
    for (const std::string name :
         {"arith", "brackets", "recall", "translate", prose ? "prose" : "code"})
      texts_.push_back(
          {name, surgery::byte_ids(
                     name == "prose"
                         ? data::read_text("classics/valid").substr(0, static_cast<size_t>(bytes))
                         : data::function_text(name, bytes, 1))});
  }

  const FunctionWorld& at(uint64_t seed) {
    if (!made_.contains(seed))
      made_[seed] = surgery::make_function_world(texts_,
                                                 {.width = lab_.by_scale(32, 128, 256),
                                                  .layers = lab_.by_scale(2, 4, 6),
                                                  .neurons = lab_.by_scale(128, 512, 1024),
                                                  .context = lab_.by_scale(32, 64, 256),
                                                  .steps = lab_.by_scale(3, 350, 4000),
                                                  .learning_rate = 2e-3},
                                                 lab_.by_scale(256, 4096, 65536), seed);
    seed_everything(seed);  // what follows owes nothing to whether the world was there
    return made_[seed];
  }
  std::vector<std::string> functions() const {
    std::vector<std::string> out;
    for (const auto& text : texts_) out.push_back(text.name);
    return out;
  }

 private:
  study::Lab& lab_;
  std::vector<surgery::FunctionText> texts_;
  std::map<uint64_t, FunctionWorld> made_;
};

/// Loss of an embedded model of whose neurons a rule keeps a share at each token.
double loss_with(study::Lab& lab, const study::Subject& subject, const std::string& rule,
                 double share, int64_t layer = -1) {
  auto model = subject.copy();
  const auto context = std::min<int64_t>(256, model->config.context);
  const auto tokens = std::min<int64_t>(std::ssize(subject.valid), lab.by_scale(512, 4096, 65536));
  lm::Hooks hooks;
  surgery::SparseCount zeros;
  if (rule == "largest" || rule == "random")
    surgery::attach_kept(hooks, model, share,
                         rule == "largest" ? surgery::KeepRule::largest : surgery::KeepRule::random,
                         layer);
  if (rule == "TEAL" || rule == "CATS") {
    const auto by = rule == "TEAL" ? surgery::SparseRule::teal : surgery::SparseRule::cats;
    const auto thresholds = surgery::find_thresholds(model, by, 1 - share, subject.calibration);
    surgery::attach(hooks, model, by, thresholds, zeros);
  }
  if (rule == "most often used")
    model = surgery::pruned(
        model,
        torch::cat(surgery::hot_neurons(subject.census, share)).logical_not().nonzero().squeeze(1));
  if (rule == "MoEfication")
    surgery::moefy(model, subject.calibration,
                   {.ratio = share,
                    .training = {.epochs = lab.by_scale(1, 5, 30)},
                    .tokens = lab.by_scale<int64_t>(256, 4096, 32768)});
  const Ids ids(subject.valid.begin(), subject.valid.begin() + tokens);
  return lm::evaluate(model, ids, tokens, context, 8, &hooks).loss();
}

/// A1 on the embedded models: what a token needs of its neurons.
void sparsity(study::Lab& lab, const std::string& name, double bar) {
  if (!lab.smoke() && !study::find_trained(lab, name)) return;
  const bool gated = name == "llama-classics";
  const std::vector<std::string> rules{"largest", "random", "most often used", "MoEfication",
                                       gated ? "CATS" : "TEAL"};
  const auto kept = lab.part(name, [&] {
    const auto subject = study::find_subject(lab, name);
    const double whole = loss_with(lab, *subject, "largest", 1);
    std::vector<std::vector<double>> rows;
    for (const int percent : {1, 5, 10, 20, 50}) {
      rows.push_back({static_cast<double>(percent)});
      for (const auto& rule : rules)
        rows.back().push_back(loss_with(lab, *subject, rule, percent / 100.0) / whole - 1);
    }
    for (int64_t layer = 0; layer < subject->config().layers; ++layer)
      rows.push_back({static_cast<double>(layer),
                      loss_with(lab, *subject, "largest", 0.2, layer) / whole - 1});
    return rows;
  });
  std::vector<std::string> columns{"kept %"};
  columns.insert(columns.end(), rules.begin(), rules.end());
  auto table =
      lab.table(name + ": relative loss when each token keeps some of its neurons", columns);
  auto by_layer = lab.table(name + ": the same at 20 % in one layer", {"layer", "relative loss"});
  for (const auto& row : kept) (row.size() > 2 ? table : by_layer).add({row.begin(), row.end()});
  lab.claim(name + ": loss added by keeping each token's top fifth of neurons")
      .paper("70 to 80 % can be zeroed with small loss")
      .measured(kept[3][1])
      .in_percent()
      .at_most(bar);
  lab.claim(name + ": a random fifth costs so many times as much")
      .measured(kept[3][2] / std::max(1e-9, kept[3][1]))
      .at_least(10);
}

/// A2 to A5: which neurons belong to a function, and what happens without them.
void analyses(study::Lab& lab, Worlds& worlds) {
  const auto tokens = lab.by_scale<int64_t>(64, 1024, 4096);
  const Rows special(lab, "specialisation", [&](uint64_t seed) {
    return surgery::specialisation_lines(worlds.at(seed), tokens, lab.by_scale(10, 100, 200));
  });
  special.write(lab, "share of neurons called specialised for some function",
                {"judged by", "trained", "untrained"});
  lab.claim("neurons called specialised in the untrained model")
      .measured(special.at("beyond the byte, windows shuffled", 1))
      .in_percent()
      .at_most(0.05);
  const Rows pruned(lab, "pruning", [&](uint64_t seed) {
    return surgery::pruning_lines(worlds.at(seed), tokens, 0.02);
  });
  auto columns = worlds.functions();
  columns.insert(columns.begin(), "pruned"), columns.push_back("own over others");
  pruned.write(lab, "loss added by pruning 2 % of the neurons", columns);
  plot::HeatMap overlap{.title = "Jaccard overlap of the functions' top neurons"};
  for (const auto& name : worlds.functions()) {
    overlap.values.emplace_back();
    for (size_t i = 0; i < worlds.functions().size(); ++i)
      overlap.values.back().push_back(pruned.at("overlap " + name, i).mean());
  }
  lab.plot(overlap);
  lab.claim("functions of 5 whose own loss suffers at least 3 times as much as the others'")
      .measured(pruned.at("specific", 0))
      .at_least(4);
  lab.claim("the same ratio for random neurons")
      .measured(pruned.at("specific", 1))
      .between(0.5, 1.5);
  const Rows communities(lab, "communities", [&](uint64_t seed) {
    return surgery::community_lines(worlds.at(seed), tokens, lab.by_scale(8, 32, 32),
                                    lab.by_scale(4, 20, 50));
  });
  communities.write(lab, "communities of neurons",
                    {"model", "Q", "null Q", "z", "correlation within", "between",
                     "adjusted Rand of two halves"});
  std::vector<double> least(lab.seeds().size(), 1e9), most(least.size());
  for (size_t s = 0; s < least.size(); ++s)
    for (int64_t l = 0; l < lab.by_scale(2, 4, 6); ++l) {
      const auto z = [&](const char* model) {
        return communities.at(fmt::format("{}, layer {}", model, l), 2).values[s];
      };
      least[s] = std::min(least[s], z("trained"));
      most[s] = std::max(most[s], std::abs(z("untrained")));
    }
  lab.claim("least z of modularity over layers, trained").measured(least).at_least(5);
  lab.claim("largest |z| of modularity over layers, untrained").measured(most).at_most(2);
}

/// O1: bricks by instruction, and a static part of the network for one function.
void routing(study::Lab& lab, Worlds& worlds) {
  const Rows networks(lab, "networks", [&](uint64_t seed) {
    return surgery::network_lines(worlds.at(seed), lab.by_scale<int64_t>(64, 2048, 8192),
                                  lab.by_scale(128, 512, 1024) * 2 / 5);
  });
  networks.write(lab, "relative loss of a task's network of 40 % of the neurons",
                 {"function", "most active", "Wanda on the function", "most often used",
                  "Wanda on all functions", "magnitude", "random"});
  const auto ours = networks.at("mean", 0);
  lab.claim("loss added by a task's network of 40 % of the neurons")
      .measured(ours)
      .in_percent()
      .at_most(0.05);
  for (const auto& [what, column] : {std::pair{"random neurons", 5}, {"the largest weights", 4}})
    lab.claim(fmt::format("the same with {}", what))
        .measured(networks.at("mean", static_cast<size_t>(column)))
        .in_percent()
        .at_least(ours.mean());
  const auto retrieved = lab.over_seeds("retrieval", [&](uint64_t seed) {
    return surgery::retrieved_share(worlds.at(seed), lab.by_scale(2, 20, 50));
  });
  lab.claim("instructions whose function's brick was retrieved")
      .measured(retrieved)
      .in_percent()
      .at_least(0.8);
  const double speed = lab.part("speed of a network", [&] {
    const DenseFeedForward whole(DenseFeedForwardOptions{.width = 128, .neurons = 512});
    const DenseFeedForward less(DenseFeedForwardOptions{.width = 128, .neurons = 204});
    const torch::NoGradGuard no_grad;
    const auto x = torch::randn({4096, 128});
    return time_interleaved({[&] { whole->forward(x); }, [&] { less->forward(x); }},
                            lab.by_scale(5, 100, 100), 20)
        .ratio(0, 1);
  });
  lab.claim("a task's network of 40 % of the neurons: speed of the FFN")
      .measured(speed)
      .at_least(1.5);
}

/// O2 to O4: two new tasks merged by every rule, facts put in, neurons added.
void operations(study::Lab& lab, Worlds& worlds) {
  const auto task = [&](const char* kind, uint64_t seed) {
    return surgery::byte_ids(
        data::function_text(kind, lab.by_scale<int64_t>(4000, 60'000, 400'000), seed));
  };
  const Rows merged(lab, "merging", [&](uint64_t seed) {
    return surgery::merging_lines(worlds.at(seed),
                                  {.tasks = {{"code", task("code", seed + 50)},
                                             {"translate 2", task("translate", seed + 77)}},
                                   .steps = lab.by_scale<int64_t>(2, 60, 600),
                                   .seed = seed});
  });
  merged.write(lab, "two new tasks, losses in nats a byte",
               {"model", "code", "translate 2", "mean"});
  lab.claim("one brick folded in two ways: relative difference of logits")
      .measured(merged.at("exact"))
      .at_most(1e-6);
  lab.claim("mean loss saved by task arithmetic or TIES over plain averaging")
      .measured(merged.at("average", 2).mean() -
                std::min(merged.at("arithmetic", 2).mean(), merged.at("ties", 2).mean()))
      .at_least(1e-6);

  const Rows edited(lab, "editing", [&](uint64_t seed) {
    surgery::EditTrial trial{.facts = lab.by_scale<int64_t>(2, 50, 50),
                             .tuning_steps = lab.by_scale<int64_t>(2, 40, 40),
                             .calibration = lab.by_scale(0.5, 0.05, 0.2),
                             .edit = {.layer = lab.by_scale<int64_t>(1, 2, 3),
                                      .steps = lab.by_scale<int64_t>(3, 25, 25)},
                             .seed = seed};
    if (!lab.smoke())
      trial.edit.prefixes = {
          {}, surgery::byte_ids("note: "), surgery::byte_ids("they say that the ")};
    return surgery::editing_lines(worlds.at(seed), trial);
  });
  edited.write(lab, "50 facts, one after another",
               {"method", "said", "said after another beginning", "neighbours changed",
                "relative loss on other text"});
  lab.claim("edits: largest error of W'k* = v*").measured(edited.at("exact", 0)).at_most(1e-4);
  lab.claim("edits that still hold after all")
      .measured(edited.at("rank-one edits", 0))
      .in_percent()
      .at_least(0.9);
  lab.claim("edits: loss added on other text")
      .measured(edited.at("rank-one edits", 3))
      .in_percent()
      .at_most(0.02);
  lab.claim("edits taken back: share of runs with the same bytes")
      .measured(edited.at("exact", 1))
      .at_least(1);

  const Rows grown(lab, "growing", [&](uint64_t seed) {
    return surgery::growing_lines(worlds.at(seed), task("code", seed + 50), lab.by_scale(4, 64, 64),
                                  lab.by_scale<int64_t>(2, 100, 600), seed);
  });
  grown.write(lab, "a new task in new neurons",
              {"model", "loss on the new task", "taken away", "relative loss on old text"});
  lab.claim("grown neurons at birth: largest change of a logit")
      .measured(grown.at("birth"))
      .at_most(1e-6);
  lab.claim("grown neurons: loss on the new task taken away")
      .measured(grown.at("new neurons, all else frozen", 1))
      .in_percent()
      .at_least(0.2);
  lab.claim("grown neurons: loss added on old text")
      .measured(grown.at("new neurons, all else frozen", 2))
      .in_percent()
      .at_most(0.01);
}

void run(study::Lab& lab) {
  sparsity(lab, "opt-classics", 0.02);
  sparsity(lab, "llama-classics", 0.05);
  Worlds worlds(lab);
  analyses(lab, worlds);
  routing(lab, worlds);
  operations(lab, worlds);
  lab.not_shown("Llama-3 and Mistral figures", "their weights do not ship; the calls take them");
  lab.not_shown("Deja Vu's predictors", "they stand in the tables of ffsplit and moefication");
}

const auto registered = study::add({.slug = "bricks"}, run);

}  // namespace
