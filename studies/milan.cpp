#include <algorithm>
#include <cmath>
#include <map>

#include "cajal/atlas/described_world.h"
#include "cajal/study/study.h"

namespace {
using namespace cajal;
using atlas::Agreement;
using atlas::DescribedWorld;
using Split = atlas::DescribedSplit;
using torch::Tensor;
using Phrases = std::vector<std::string>;

const Phrases kLetterWords = {"word", "text", "letter", "glyph"};
/// Works when 1: one pass against an offline reference on the same pictures.
std::vector<double> exemplars(const atlas::WorldNet& net, const atlas::WorldTensors& data) {
  const torch::NoGradGuard no_grad;
  const auto pictures = data.pictures.slice(0, 0, 500);
  const auto all = net.run(pictures, {}).second;
  const auto pass = [&](bool exact, int64_t batch) {
    atlas::ExemplarPass one({.exact = exact});
    for (const auto& some : pictures.split(batch)) one.add(net.run(some, {}).second);
    return one.finish();
  };
  const auto sketch = pass(false, 64), exact = pass(true, 100),
             reference = atlas::naive_exemplars(all, {});
  double rank = 0;
  int64_t unit = 0;
  for (const auto& layer : all)
    for (int64_t c = 0; c < layer.size(1); ++c) {
      const auto mine = layer.select(1, c);
      const auto found = sketch.levels[unit++];  // equal values: any of their ranks is right
      rank = std::max({rank, (mine < found).to(torch::kDouble).mean().item<double>() - 0.99,
                       0.99 - (mine <= found).to(torch::kDouble).mean().item<double>()});
    }
  return {static_cast<double>(torch::equal(reference.pictures, sketch.pictures)),
          static_cast<double>(
              torch::equal(atlas::exemplar_masks(reference, 48), atlas::exemplar_masks(exact, 48))),
          rank};
}

/// Works when 2, on toys: {log-probabilities against a loop over steps, beam search as wide as all
/// phrases against the best of them, gradient along a direction against differences}.
std::vector<double> decoding() {
  ShowAttendTell describer(ShowAttendTellOptions{
      .vocabulary = 6, .features = 5, .embedding = 4, .hidden = 8, .dropout = 0});
  LstmLanguageModel language(LstmLanguageModelOptions{
      .vocabulary = 6, .embedding = 4, .hidden = 8, .layers = 2, .dropout = 0});
  const auto features = torch::randn({1, 3, 5});
  const auto all = torch::cartesian_prod({torch::arange(6), torch::arange(6), torch::arange(6)});
  const auto n = all.size(0);
  const auto told = torch::cat({torch::full({n, 1}, caption::kStart), all.slice(1, 0, 2)}, 1);
  const auto seen = features.expand({n, 3, 5});
  const auto odds = [&] { return std::get<0>(describer->forward(seen, told)); };
  const auto stepwise = [&] {
    auto state = describer->start(seen), words = language->start(n);
    const auto projected = describer->project(seen);
    double worst = 0;
    const auto whole = odds(), prior = language->forward(told);
    for (int64_t t = 0; t < 3; ++t) {
      const auto word = told.select(1, t);
      const auto one = std::get<0>(describer->step(seen, projected, word, state));
      worst =
          std::max({worst, (one - whole.select(1, t)).abs().max().item<double>(),
                    (language->step(word, words) - prior.select(1, t)).abs().max().item<double>()});
    }
    return worst;
  };
  std::vector<double> out;
  {
    const torch::NoGradGuard no_grad;
    out.push_back(stepwise());
    const auto said = odds().gather(2, all.unsqueeze(2)).squeeze(2);
    const auto over = (all == caption::kStop).cumsum(1) - (all == caption::kStop).to(torch::kLong);
    const auto best = said.masked_fill(over > 0, 0).sum(1).max().item<double>();
    out.push_back(
        std::abs(caption::beam_search(describer, features, 216, 3)[0].front().score - best));
  }
  const auto weights = describer->parameters();
  std::vector<Tensor> way;
  for (const auto& w : weights) way.push_back(torch::randn_like(w).detach());
  const auto wide = odds().to(torch::kDouble).sum();
  const auto slopes = torch::autograd::grad({wide}, weights);
  double along = 0;
  for (size_t i = 0; i < way.size(); ++i) along += (slopes[i] * way[i]).sum().item<double>();
  const torch::NoGradGuard no_grad;
  const auto moved = [&](double by) {
    for (size_t i = 0; i < way.size(); ++i) weights[i].detach().add_(by * way[i]);
    return odds().to(torch::kDouble).sum().item<double>();
  };
  constexpr double kStep = 1e-3;
  const double up = moved(kStep), down = moved(-2 * kStep);
  out.push_back(std::abs((up - down) / (2 * kStep) / along - 1));
  return out;
}

atlas::DescribedWorldOptions scaled(const study::Lab& lab) {
  atlas::DescribedWorldOptions o;
  o.train = lab.by_scale(100, 3000, 12000), o.probe = lab.by_scale(60, 2000, 6000);
  o.encoder_steps = lab.by_scale(2, 800, 3000), o.net_steps = lab.by_scale(2, 300, 2000);
  o.edited = lab.by_scale(100, 2500, 6000), o.edited_steps = lab.by_scale(2, 500, 2000);
  o.held = lab.by_scale(60, 400, 1000), o.deletions = lab.by_scale(3, 20, 50);
  o.beam = lab.by_scale(4, 50, 50);
  o.describing.exemplars.top = lab.by_scale(4, 15, 15);
  o.describing.whole = lab.by_scale(60, 400, 2000);
  o.captioner = {.embedding = lab.by_scale<int64_t>(8, 64, 128),
                 .hidden = lab.by_scale<int64_t>(8, 128, 512),
                 .dropout = 0.3,
                 .training = {.epochs = lab.by_scale<int64_t>(1, 40, 60),
                              .patience = 8,
                              .batch = 32,
                              .rate = lab.by_scale(5e-3, 5e-3, 1e-3),
                              .evaluate_every = 2}};
  return o;
}

void show_mechanics(study::Lab& lab, DescribedWorld& world) {
  const auto one =
      lab.part("exemplars", [&] { return exemplars(world.encoder(), world.pictures()); });
  lab.claim("exemplars of one pass are those of a full sort (500 pictures)").holds(one[0] == 1);
  lab.claim("masks of the exact form are those of an offline reference").holds(one[1] == 1);
  lab.claim("rank error of the sketch").measured(one[2]).in_percent().at_most(1e-3);
  const auto two = lab.part("decoding", [] { return decoding(); });
  lab.claim("log-probabilities against a loop over steps").measured(two[0]).at_most(1e-5);
  lab.claim("beam search as wide as all phrases against the best of them")
      .measured(two[1])
      .at_most(1e-5);
  lab.claim("gradient along a direction against differences, relative")
      .measured(two[2])
      .at_most(1e-3);
}

/// Works when 3 and 4.
void show_descriptions(study::Lab& lab, DescribedWorld& world) {
  auto table = lab.table("descriptions of units not seen before",
                         {"split", "method", "attribute F1", "BLEU-4", "ROUGE-L",
                          "attributes a phrase", "share exactly true"});
  using Values = std::vector<Agreement>;
  std::map<Split, std::map<std::string, Values>> all;
  const auto figure = [&](const Split split, const std::string& method, double Agreement::*member) {
    std::vector<double> out;
    for (const auto& value : all[split][method]) out.push_back(value.*member);
    return study::Figure(out);
  };
  for (const Split split : {Split::within, Split::architecture, Split::network, Split::task}) {
    Phrases order;
    for (const auto seed : lab.seeds())
      for (const auto& [method, value] : lab.part(to_name(split), seed, [&] {
             return split == Split::within
                        ? world.compare(split, seed, {0, 0.1, 0.2, 0.3, 0.5, 0.7, 1},
                                        {caption::Strategy::greedy, caption::Strategy::mi_beam})
                        : world.compare(split, seed, {0, 0.2});
           })) {
        if (seed == lab.seeds()[0]) order.push_back(method);
        all[split][method].push_back(value);
      }
    for (const auto& method : order)
      table.row(to_name(split), method, figure(split, method, &Agreement::f1),
                figure(split, method, &Agreement::bleu), figure(split, method, &Agreement::rouge),
                figure(split, method, &Agreement::attributes),
                figure(split, method, &Agreement::exact));
  }
  const auto f1 = [&](const Split split, const std::string& method) {
    return figure(split, method, &Agreement::f1);
  };
  const auto own = atlas::reranked(0.2);
  study::Figure share;
  for (size_t i = 0; i < lab.seeds().size(); ++i)
    share.values.push_back(f1(Split::within, own).values[i] /
                           f1(Split::within, "annotators").values[i]);
  lab.claim("attribute F1 of unseen units over the annotators' among themselves")
      .paper("agrees with people")
      .measured(share)
      .in_percent()
      .at_least(0.8);
  for (const char* rival : {"NetDissect", "compositional explanations", "most frequent phrase",
                            "nearest annotated unit"}) {
    double least = 1;
    for (const Split split : {Split::within, Split::network, Split::task, Split::architecture})
      least = std::min(least, f1(split, own).mean() - f1(split, rival).mean());
    lab.claim(fmt::format("F1 above {} on the worst of four splits", rival))
        .paper("better than fixed labels")
        .measured(least)
        .in_percent()
        .at_least(0);
  }
  const auto more = [&](double Agreement::*m) {
    return figure(Split::within, own, m).mean() -
           figure(Split::within, atlas::reranked(0), m).mean();
  };
  lab.claim("lambda 0.2: attributes a phrase more than with lambda 0")
      .paper("more specific")
      .measured(more(&Agreement::attributes))
      .at_least(1e-9);
  lab.claim("lambda 0.2: change of F1").measured(more(&Agreement::f1)).in_percent().at_least(-0.01);
}

void show_uses(study::Lab& lab, DescribedWorld& world) {
  auto groups = lab.table(
      "shape classifier with groups of units deleted",
      {"seed", "phrases with", "units", "accuracy", "without them", "without as many random ones"});
  auto edits = lab.table(
      "shape classifier trained with its label's initial on half of the "
      "pictures; accuracy on random initials",
      {"seed", "deleted", "guided", "sort all", "random", "+-", "guided, no initials", "chosen"});
  study::Figure gain, over, lost, heard;
  for (const auto seed : lab.seeds()) {
    for (const auto& g : lab.part("groups", seed, [&] { return world.without_groups(seed); }))
      groups.row(seed, g.name, g.units, g.accuracy, g.without, study::Figure(g.without_random));
    const auto e = lab.part("edit", seed, [&] { return world.edit(seed, kLetterWords); });
    const auto &guided = e.edit.curves[0], &any = e.edit.curves[1], &chance = e.edit.curves[2];
    const auto chosen = static_cast<size_t>(e.edit.chosen);
    for (size_t n = 0; n < guided.adversarial.size(); ++n)
      if (n % 4 == 0 || n == chosen)
        edits.row(seed, n, guided.adversarial[n], any.adversarial[n], chance.adversarial[n],
                  chance.spread[n], guided.clean[n], n == chosen ? "x" : "");
    gain.values.push_back(guided.adversarial[chosen] - guided.adversarial[0]);
    over.values.push_back((guided.adversarial[chosen] - chance.adversarial[chosen]) /
                          std::max(chance.spread[chosen], 1e-3));
    lost.values.push_back(guided.clean[0] - guided.clean[chosen]);
    heard.values.push_back(e.letters > 0 ? e.found / e.letters : std::nan(""));
  }
  lab.claim("edit: accuracy gained on random initials")
      .paper("a few points")
      .measured(gain)
      .in_percent()
      .at_least(0.03);
  lab.claim("edit: above random deletions, in their deviations").measured(over).at_least(2);
  lab.claim("edit: accuracy lost without initials").measured(lost).in_percent().at_most(0.01);
  lab.claim("audit: units that look at letters whose phrase says so")
      .paper("finds face units")
      .measured(heard)
      .in_percent()
      .at_least(0.9);
}

void run(study::Lab& lab) {
  DescribedWorld world(scaled(lab));
  show_mechanics(lab, world);
  show_descriptions(lab, world);
  show_uses(lab, world);
  lab.not_shown("BERTScore against human MILANNOTATIONS",
                "its pictures may not be passed on; math::bert_score takes the embeddings of any "
                "language model");
}

const auto registered = study::add({.slug = "milan"}, run);
}  // namespace
