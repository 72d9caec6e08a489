#include <algorithm>
#include <cmath>
#include <optional>

#include "cajal/atlas/dissection.h"
#include "cajal/atlas/unit_edits.h"
#include "cajal/study/study.h"

namespace {
using namespace cajal;
using atlas::Agreement;
using atlas::DescribedUnits;
using atlas::WorldTask;
using torch::Tensor;
using Phrases = std::vector<std::string>;

const Phrases kLetterWords = {"word", "text", "letter", "glyph"};

/// Works when 1: one pass against an offline reference on the same pictures.
void mechanics(study::Lab& lab, const atlas::WorldNet& net, const atlas::WorldTensors& data) {
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
  const bool same = torch::equal(reference.pictures, sketch.pictures);
  const bool same_masks =
      torch::equal(atlas::exemplar_masks(reference, 48), atlas::exemplar_masks(exact, 48));
  double rank = 0;
  int64_t unit = 0;
  for (const auto& layer : all)
    for (int64_t c = 0; c < layer.size(1); ++c) {
      const auto mine = layer.select(1, c);
      const auto found = sketch.levels[unit++];  // equal values: any of their ranks is right
      rank = std::max({rank, (mine < found).to(torch::kDouble).mean().item<double>() - 0.99,
                       0.99 - (mine <= found).to(torch::kDouble).mean().item<double>()});
    }
  lab.claim("exemplars of one pass are those of a full sort (500 pictures)").holds(same);
  lab.claim("masks of the exact form are those of an offline reference").holds(same_masks);
  lab.claim("rank error of the sketch").measured(rank).in_percent().at_most(1e-3);
}

/// Figures of every method on every split, one a seed.
class Splits {
 public:
  void add(const std::string& split, const std::string& method, const Agreement& value) {
    for (auto& row : rows_)
      if (row.split == split && row.method == method) return row.seeds.push_back(value);
    rows_.push_back({split, method, {value}});
  }
  study::Figure figure(const std::string& split, const std::string& method,
                       double Agreement::*member) const {
    std::vector<double> out;
    for (const auto& row : rows_)
      if (row.split == split && row.method == method)
        for (const auto& value : row.seeds) out.push_back(value.*member);
    return out;
  }
  void print(study::Lab& lab) const {
    auto table = lab.table("descriptions of units not seen before",
                           {"split", "method", "attribute F1", "BLEU-4", "ROUGE-L",
                            "attributes a phrase", "share exactly true"});
    for (const auto& row : rows_) {
      const auto of = [&](double Agreement::*m) { return figure(row.split, row.method, m); };
      table.row(row.split, row.method, of(&Agreement::f1), of(&Agreement::bleu),
                of(&Agreement::rouge), of(&Agreement::attributes), of(&Agreement::exact));
    }
  }

 private:
  struct Row {
    std::string split, method;
    std::vector<Agreement> seeds;
  };
  std::vector<Row> rows_;
};

const char *kWithin = "within networks", *kNetwork = "across network: colour classifier",
           *kTask = "across task: autoencoder", *kArchitecture = "across architecture: ViT";
std::string milan(double lambda) { return fmt::format("MILAN, lambda {:.1f}", lambda); }

class Milan {
 public:
  explicit Milan(study::Lab& lab) : lab_(lab) {
    train_ = atlas::world_tensors(data::shape_world(lab.by_scale(100, 3000, 12000), 1));
    probe_ = atlas::world_tensors(data::shape_world(lab.by_scale(60, 2000, 6000), 2));
    encoder_ = atlas::train_world_net(WorldTask::all, train_,
                                      {.steps = lab.by_scale<int64_t>(2, 800, 3000)}, 1);
    options_.exemplars.top = lab.by_scale<int64_t>(4, 15, 15);
    options_.whole = lab.by_scale(60, 400, 2000);
    const auto kinds = probe_.kinds.slice(0, 0, options_.whole).unsqueeze(0);
    everywhere_ = atlas::count_kinds(torch::ones_like(kinds, torch::kBool), kinds)[0];
    recipe_ = {.embedding = lab.by_scale<int64_t>(8, 64, 128),
               .hidden = lab.by_scale<int64_t>(8, 128, 512),
               .dropout = 0.3,
               .training = {.epochs = lab.by_scale<int64_t>(1, 40, 60),
                            .patience = 8,
                            .batch = 32,
                            .rate = lab.by_scale(5e-3, 5e-3, 1e-3),
                            .evaluate_every = 2}};
    beam_ = lab.by_scale<int64_t>(4, 50, 50);
    mechanics(lab, encoder_, lab.smoke() ? probe_ : train_);
  }

  /// {recall of letter units; gain on random initials, the same over chance in deviations, clean
  /// loss} of one seed.
  std::vector<double> run(uint64_t seed) {
    std::vector<atlas::WorldNet> nets;
    std::vector<DescribedUnits> units;
    for (const auto task : {WorldTask::shape, WorldTask::colour, WorldTask::texture,
                            WorldTask::autoencoder, WorldTask::vit}) {
      nets.push_back(atlas::train_world_net(
          task, train_, {.steps = lab_.by_scale<int64_t>(2, 300, 2000)}, seed * 31 + 7));
      units.push_back(atlas::probe(nets.back(), encoder_, probe_, options_, seed));
    }
    seed_everything(seed);
    const auto convolutional = atlas::join({units[0], units[1], units[2], units[3]});
    const auto order = torch::randperm(convolutional.size());
    std::vector<int64_t> known, unknown;
    for (int64_t i = 0; i < order.size(0); ++i)
      (i < order.size(0) * 4 / 5 ? known : unknown).push_back(order[i].item<int64_t>());
    const auto train = convolutional.of(known), test = convolutional.of(unknown);
    auto captioner = atlas::train_captioner(train, recipe_);
    compare(kWithin, captioner, train, test);
    compare(kArchitecture, captioner, train, units[4]);
    leave_out(kNetwork, units, 1), leave_out(kTask, units, 3);
    analyse(nets[0], units[0], captioner, seed);
    std::vector<DescribedUnits> sets = {test, units[4]};
    auto out = edit(captioner, seed, sets);
    double letters = 0, found = 0;
    for (const auto& set : sets) {
      const auto said = say(captioner, set.features);
      for (size_t i = 0; i < said.size(); ++i)
        if (set.truth[i].meaning.shape == 4)
          ++letters, found += atlas::mentions(said[i], kLetterWords);
    }
    out.push_back(letters > 0 ? found / letters : std::nan(""));
    return out;
  }

  void judge(const std::vector<study::Figure>& figures) {
    splits_.print(lab_);
    const auto f1 = [&](const char* split, const std::string& method) {
      return splits_.figure(split, method, &Agreement::f1);
    };
    std::vector<double> share;
    const auto own = f1(kWithin, milan(0.2)), people = f1(kWithin, "annotators");
    for (size_t i = 0; i < own.values.size(); ++i)
      share.push_back(own.values[i] / people.values[i]);
    lab_.claim("attribute F1 of unseen units over the annotators' among themselves")
        .paper("agrees with people")
        .measured(share)
        .in_percent()
        .at_least(0.8);
    for (const char* rival : {"NetDissect", "compositional explanations", "most frequent phrase",
                              "nearest annotated unit"}) {
      double least = 1;
      for (const char* split : {kWithin, kNetwork, kTask, kArchitecture})
        least = std::min(least, f1(split, milan(0.2)).mean() - f1(split, rival).mean());
      lab_.claim(fmt::format("F1 above {} on the worst of four splits", rival))
          .paper("better than fixed labels")
          .measured(least)
          .in_percent()
          .at_least(0);
    }
    const auto more = [&](double Agreement::*m) {
      return splits_.figure(kWithin, milan(0.2), m).mean() -
             splits_.figure(kWithin, milan(0), m).mean();
    };
    lab_.claim("lambda 0.2: attributes a phrase more than with lambda 0")
        .paper("more specific")
        .measured(more(&Agreement::attributes))
        .at_least(1e-9);
    lab_.claim("lambda 0.2: change of F1")
        .measured(more(&Agreement::f1))
        .in_percent()
        .at_least(-0.01);
    lab_.claim("edit: accuracy gained on random initials")
        .paper("a few points")
        .measured(figures[0])
        .in_percent()
        .at_least(0.03);
    lab_.claim("edit: above random deletions, in their deviations")
        .measured(figures[1])
        .at_least(2);
    lab_.claim("edit: accuracy lost without initials")
        .measured(figures[2])
        .in_percent()
        .at_most(0.01);
    lab_.claim("audit: units that look at letters whose phrase says so")
        .paper("finds face units")
        .measured(figures[3])
        .in_percent()
        .at_least(0.9);
  }

 private:
  Phrases say(atlas::UnitCaptioner& captioner, const Tensor& features, double lambda = 0.2,
              caption::Strategy how = caption::Strategy::rerank) const {
    return captioner.describe(features,
                              {.strategy = how, .lambda = lambda, .beam = beam_, .length = 8});
  }

  void compare(const char* split, atlas::UnitCaptioner& captioner, const DescribedUnits& known,
               const DescribedUnits& unknown) {
    const auto add = [&](const std::string& method, const Phrases& said) {
      splits_.add(split, method, atlas::agreement(said, unknown));
    };
    for (const double lambda : {0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0})
      if (split == kWithin || lambda == 0 || lambda == 0.2)
        add(milan(lambda), say(captioner, unknown.features, lambda));
    if (split == kWithin)
      for (const auto how : {caption::Strategy::greedy, caption::Strategy::mi_beam})
        add("lambda 0.2, " + to_name(how), say(captioner, unknown.features, 0.2, how));
    add("NetDissect", atlas::phrases_of(atlas::dissect(unknown.inside, everywhere_)));
    add("compositional explanations",
        atlas::phrases_of(atlas::explain_by_formulas(unknown.inside, everywhere_)));
    add("nearest annotated unit", atlas::nearest_phrases(known, unknown.features));
    add("most frequent phrase", atlas::most_frequent_phrase(known, unknown.size()));
    splits_.add(split, "annotators", atlas::annotator_agreement(unknown));
  }

  void leave_out(const char* split, const std::vector<DescribedUnits>& units, size_t out) {
    std::vector<DescribedUnits> rest;
    for (size_t n = 0; n < 4; ++n)
      if (n != out) rest.push_back(units[n]);
    const auto known = atlas::join(rest);
    auto captioner = atlas::train_captioner(known, recipe_);
    compare(split, captioner, known, units[out]);
  }

  void analyse(const atlas::WorldNet& net, const DescribedUnits& units,
               atlas::UnitCaptioner& captioner, uint64_t seed) {
    if (!analysis_)
      analysis_.emplace(lab_.table("shape classifier with groups of units deleted",
                                   {"seed", "phrases with", "units", "accuracy", "without them",
                                    "without as many random ones"}));
    Random random(seed, 3);
    const auto accuracy = [&](const std::vector<int64_t>& deleted) {
      return atlas::world_accuracy(net, WorldTask::shape, probe_, {.units = deleted});
    };
    const double whole = accuracy({});
    for (const auto& group : atlas::phrase_groups(say(captioner, units.features))) {
      if (group.rows.size() < 4) continue;
      std::vector<int64_t> chosen;
      for (const auto row : group.rows) chosen.push_back(units.unit[static_cast<size_t>(row)]);
      std::vector<double> chance;
      for (int t = 0; t < 3; ++t)
        chance.push_back(accuracy(atlas::random_units(net, std::ssize(chosen), random)));
      analysis_->row(seed, group.name, chosen.size(), whole, accuracy(chosen),
                     study::Figure(chance));
    }
  }

  std::vector<double> edit(atlas::UnitCaptioner& captioner, uint64_t seed,
                           std::vector<DescribedUnits>& sets) {
    const auto world = [&](int64_t count, uint64_t stream, double share, bool random) {
      return atlas::world_tensors(data::shape_world(count, seed * 100 + stream,
                                                    {.most = 1,
                                                     .shapes = 4,
                                                     .smallest = 8,
                                                     .largest = 13,
                                                     .noise = 0.12,
                                                     .initial_share = share,
                                                     .random_initial = random}));
    };
    const int64_t held = lab_.by_scale(60, 400, 1000);
    const auto train = world(lab_.by_scale(100, 2500, 6000), 1, 0.5, false);
    const auto valid = world(held, 2, 0.5, false);
    const auto net = atlas::train_world_net(
        WorldTask::first, train, {.steps = lab_.by_scale<int64_t>(2, 500, 2000)}, seed + 5);
    const auto units = atlas::probe(net, encoder_, valid, options_, seed);
    sets.push_back(units);
    Random random(seed, 9);
    const auto edit = atlas::edit_by_phrases(
        net, WorldTask::first, units, say(captioner, units.features), kLetterWords, valid,
        world(held, 3, 0, false), world(2 * held, 4, 1, true), world(2 * held, 5, 0, false),
        {.most = lab_.by_scale<int64_t>(3, 20, 50)}, random);
    if (!edits_)
      edits_.emplace(
          lab_.table("shape classifier trained with its label's initial on half of the "
                     "pictures; accuracy on random initials",
                     {"seed", "deleted", "guided", "sort all", "random", "+-",
                      "guided, no initials", "chosen"}));
    const auto &guided = edit.curves[0], &any = edit.curves[1], &chance = edit.curves[2];
    for (size_t n = 0; n < guided.adversarial.size(); ++n)
      if (n % 4 == 0 || std::cmp_equal(n, edit.chosen))
        edits_->row(seed, n, guided.adversarial[n], any.adversarial[n], chance.adversarial[n],
                    chance.spread[n], guided.clean[n], std::cmp_equal(n, edit.chosen) ? "x" : "");
    const auto n = static_cast<size_t>(edit.chosen);
    const double over = guided.adversarial[n] - chance.adversarial[n];
    return {guided.adversarial[n] - guided.adversarial[0], over / std::max(chance.spread[n], 1e-3),
            guided.clean[0] - guided.clean[n]};
  }

  study::Lab& lab_;
  atlas::WorldTensors train_, probe_;
  atlas::WorldNet encoder_;
  atlas::DescribingOptions options_;
  atlas::UnitCaptionerOptions recipe_;
  Tensor everywhere_;
  int64_t beam_ = 50;
  Splits splits_;
  std::optional<study::TableWriter> analysis_, edits_;
};

void run(study::Lab& lab) {
  Milan milan(lab);
  milan.judge(lab.over_seeds([&](uint64_t seed) { return milan.run(seed); }));
  lab.not_shown("BERTScore against human MILANNOTATIONS",
                "its pictures may not be passed on; math::bert_score takes the embeddings of any "
                "language model");
}

const auto registered = study::add({.slug = "milan"}, run);
}  // namespace
