#include "cajal/study/graphs.h"
#include "cajal/study/images.h"
#include "cajal/train/saved_bytes.h"

namespace {
using namespace cajal;
using train::GraphLearning;
using train::GraphOutcome;
using train::GraphRule;

GraphLearning learning(const study::Lab& lab) {
  GraphLearning o;
  o.hidden = lab.by_scale(16, 128, 128);
  o.max_epochs = lab.by_scale(6, 300, 1000);
  o.patience = lab.by_scale(4, 50, 100);
  return o;
}

double accuracy(const torch::Tensor& predicted, const train::GraphTask& task,
                const torch::Tensor& nodes) {
  return study::accuracy(predicted.index_select(0, nodes), task.labels.index_select(0, nodes));
}

/// What a rule reaches on one fold.
struct Fold {
  double accuracy = 0, train = 0, predict = 0;  // the last two in seconds and milliseconds
  double saved = 0, passes = 0, epochs = 0;     // the first in MB
  int64_t crossings = 0;
  std::vector<double> layers;  // accuracy of each layer alone
};
CAJAL_OPTIONS(Fold, accuracy, train, predict, saved, passes, epochs, crossings, layers)
using Folds = std::vector<Fold>;

Fold on_fold(const train::GraphTask& task, int64_t fold, GraphRule rule, const GraphLearning& o) {
  const auto split = train::split_nodes(task.labels, 5, fold, 100);
  const auto out = train::learn_nodes(task, split, rule, o);
  Fold f{.accuracy = accuracy(out.predicted, task, split.test),
         .train = out.train_seconds,
         .predict = out.predict_seconds * 1000,
         .saved = static_cast<double>(out.saved_bytes) / 1e6,
         .passes = static_cast<double>(out.passes),
         .epochs = static_cast<double>(out.epochs),
         .crossings = out.crossings,
         .layers = {}};
  for (const auto& predicted : out.by_layer)
    f.layers.push_back(accuracy(predicted, task, split.test));
  return f;
}

Folds over_folds(study::Lab& lab, const study::NamedGraph& graph, GraphRule rule,
                 const GraphLearning& o, int64_t folds) {
  Folds out;
  for (int64_t fold = 0; fold < folds; ++fold)
    out.push_back(lab.part(
        fmt::format("{}, {}, {}, fold {}", graph.name, to_name(o.convolution), to_name(rule), fold),
        static_cast<uint64_t>(fold), [&] { return on_fold(graph.task, fold, rule, o); }));
  return out;
}

study::Figure figure(const Folds& folds, double Fold::*of) {
  std::vector<double> values;
  for (const auto& fold : folds) values.push_back(fold.*of);
  return study::Figure(values);
}

using All = std::map<GraphRule, Folds>;

All citation(study::Lab& lab, const std::string& name, const std::vector<GraphRule>& rules) {
  const auto graph = study::find_graph(lab, name);
  auto table = lab.table(graph.name + ", GCN, 64/16/20 splits of seed 100",
                         {"method", "test accuracy", "seconds to train", "ms to predict",
                          "peak saved MB", "passes an epoch", "epochs"});
  auto layers = lab.table(graph.name + ", accuracy of each SF layer alone", {"layer", "accuracy"});
  const int64_t folds = lab.by_scale(1, 5, 5);
  All all;
  for (const auto rule : rules) {
    const auto& r = all[rule] = over_folds(lab, graph, rule, learning(lab), folds);
    std::vector<study::Cell> row{to_name(rule)};
    for (const auto field : {&Fold::accuracy, &Fold::train, &Fold::predict, &Fold::saved,
                             &Fold::passes, &Fold::epochs})
      row.emplace_back(figure(r, field));
    table.add(std::move(row));
    if (rule != GraphRule::single_forward) continue;
    for (size_t l = 0; l < r[0].layers.size(); ++l) {
      std::vector<double> alone;
      for (const auto& fold : r) alone.push_back(fold.layers[l]);
      layers.row(l + 1, study::Figure(alone));
    }
  }
  std::vector<double> floor;
  for (int64_t fold = 0; fold < folds; ++fold) {
    const auto split = train::split_nodes(graph.task.labels, 5, fold, 100);
    floor.push_back(
        accuracy(train::label_propagation(graph.task, split.train), graph.task, split.test));
  }
  table.row("label propagation", study::Figure(floor), "", "", "", "", "");
  return all;
}

double mean(const Folds& folds, double Fold::*of) { return figure(folds, of).mean(); }

/// Saved bytes of one training step at each depth.
void memory(study::Lab& lab) {
  data::BlockModelOptions model;
  model.nodes = lab.by_scale(300, 10'000, 1'000'000), model.features = 128;
  const auto task = study::block_model_task(model, 3);
  const auto split = train::split_nodes(task.labels, 5, 0, 100);
  auto o = learning(lab);
  o.hidden = 128, o.max_epochs = 1;
  auto table = lab.table(fmt::format("saved MB of a step, block model of {} nodes", model.nodes),
                         {"layers", "sf", "bp"});
  std::map<int64_t, double> sf, bp;
  plot::Series single{"SF", {}, {}}, full{"backpropagation", {}, {}};
  for (const int64_t layers : {1, 2, 4, 8}) {
    o.layers = layers;
    const auto saved = [&](GraphRule rule) {
      return lab.part(fmt::format("saved bytes, {}, {} layers", to_name(rule), layers), [&] {
        return static_cast<double>(train::learn_nodes(task, split, rule, o).saved_bytes) / 1e6;
      });
    };
    sf[layers] = saved(GraphRule::single_forward), bp[layers] = saved(GraphRule::backprop);
    table.row(layers, sf[layers], bp[layers]);
    single.x.push_back(static_cast<double>(layers)), single.y.push_back(sf[layers]);
    full.x.push_back(static_cast<double>(layers)), full.y.push_back(bp[layers]);
  }
  lab.plot(plot::Lines{.title = "Saved tensors of one training step",
                       .x = {"layers"},
                       .y = {"MB"},
                       .series = {single, full}});
  lab.claim("saved bytes of SF, 8 layers over 1")
      .paper("one layer's")
      .measured(sf[8] / sf[1])
      .at_most(1.3);
  lab.claim("saved bytes of backpropagation, 8 layers over 1")
      .paper("all layers'")
      .measured(bp[8] / bp[1])
      .at_least(5);
}

void links(study::Lab& lab) {
  const auto graph = study::find_graph(lab, "cora");
  auto o = learning(lab);
  o.layers = 2;
  auto table = lab.table("link prediction, " + graph.name + ", 64/16/20 of the links",
                         {"loss", "AUC", "layer 1 alone"});
  for (const auto loss : {train::LinkLoss::cross_entropy, train::LinkLoss::goodness}) {
    const auto f =
        lab.over_seeds("links by " + to_name(loss), [&](uint64_t seed) -> std::vector<double> {
          const auto out = train::learn_links(
              graph.task, train::split_links(graph.task.edges, graph.task.nodes(), seed), loss, o);
          return {out.auc, out.by_layer[0]};
        });
    table.row(to_name(loss), f[0], f[1]);
  }
}

void convolutions(study::Lab& lab) {
  const auto graph = study::find_graph(lab, "cora");
  auto table = lab.table("other convolutions, " + graph.name, {"convolution", "sf", "bp"});
  for (const auto kind : {graph::Convolution::sage, graph::Convolution::gat}) {
    auto o = learning(lab);
    o.convolution = kind;
    const int64_t folds = lab.by_scale(1, 2, 5);
    const auto sf = over_folds(lab, graph, GraphRule::single_forward, o, folds);
    const auto bp = over_folds(lab, graph, GraphRule::backprop, o, folds);
    table.row(to_name(kind), figure(sf, &Fold::accuracy), figure(bp, &Fold::accuracy));
  }
}

/// Whether a few epochs with other labels on the test nodes leave every weight and prediction as it
/// is, by every rule.
bool test_labels_are_unread(study::Lab& lab) {
  auto task = study::find_graph(lab, "cora").task;
  const auto split = train::split_nodes(task.labels, 5, 0, 100);
  auto o = learning(lab);
  o.hidden = 16, o.max_epochs = 4;
  auto other = task;
  other.labels =
      task.labels.index_copy(0, split.test, task.labels.index_select(0, split.test.flip(0)));
  using enum GraphRule;
  for (const auto rule : {backprop, single_forward, top_to_loss, top_to_input, label_appending,
                          virtual_nodes, perceptron}) {
    const auto learn = [&](const train::GraphTask& with) {
      seed_everything(lab.seeds()[0]);
      return train::learn_nodes(with, split, rule, o);
    };
    const auto a = learn(task), b = learn(other);
    if (!torch::equal(a.predicted, b.predicted)) return false;
    for (size_t i = 0; i < a.parameters.size(); ++i)
      if (!torch::equal(a.parameters[i], b.parameters[i])) return false;
  }
  return true;
}

void run(study::Lab& lab) {
  using enum GraphRule;
  const auto cora = citation(lab, "cora",
                             {backprop, single_forward, top_to_loss, top_to_input, label_appending,
                              virtual_nodes, perceptron});
  const auto& sf = cora.at(single_forward);
  const auto& la = cora.at(label_appending);
  lab.claim("SF-GCN on Cora over backpropagation")
      .paper("close or above")
      .measured(mean(sf, &Fold::accuracy) - mean(cora.at(backprop), &Fold::accuracy))
      .in_percent()
      .at_least(-0.015);
  lab.claim("accuracy of SF-GCN on Cora")
      .paper("no figure; backpropagation is known at 86 to 88 %")
      .measured(figure(sf, &Fold::accuracy))
      .in_percent()
      .at_least(0.84);
  lab.claim("SF over FF-LA, accuracy")
      .paper("FF behind")
      .measured(mean(sf, &Fold::accuracy) - mean(la, &Fold::accuracy))
      .in_percent()
      .at_least(0);
  lab.claim("seconds to train, FF-LA over SF")
      .paper("1 pass, not 1 + negatives")
      .measured(mean(la, &Fold::train) / mean(sf, &Fold::train))
      .at_least(3);
  lab.claim("seconds to predict, FF-LA over SF")
      .paper("1 pass, not one a class")
      .measured(mean(la, &Fold::predict) / mean(sf, &Fold::predict))
      .at_least(4);
  if (!lab.smoke()) {
    const auto citeseer = citation(lab, "citeseer", {backprop, single_forward, perceptron});
    lab.claim("SF-GCN on CiteSeer over backpropagation")
        .paper("close or above")
        .measured(mean(citeseer.at(single_forward), &Fold::accuracy) -
                  mean(citeseer.at(backprop), &Fold::accuracy))
        .in_percent()
        .at_least(-0.02);
    convolutions(lab);
  }
  int64_t crossings = 0;
  for (const auto& [rule, folds] : cora)
    for (const auto& fold : folds) crossings += fold.crossings;
  lab.claim("no gradient crosses layers: weights of other layers in any loss's graph, all steps")
      .paper("none")
      .measured(static_cast<double>(crossings))
      .at_most(0);
  lab.claim("other labels on the test nodes change no weight and no prediction, all rules")
      .paper("none given")
      .holds(lab.part("no leak", [&] { return test_labels_are_unread(lab); }));
  memory(lab);
  links(lab);
  lab.note("Cora and CiteSeer are Planetoid's files, not the CitationFull ones of the paper.");
  lab.not_shown("convolutions against dense formulas, their gradients, permuted nodes",
                "no matter of scale: tests/layers/graph_test.cpp holds them at every build");
  lab.not_shown("the paper's five graphs", "PubMed, Amazon Photo and GitHub are not here");
}

const auto registered = study::add({.slug = "forward-gnn"}, run);
}  // namespace
