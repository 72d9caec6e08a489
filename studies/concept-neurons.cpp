#include <algorithm>
#include <cmath>
#include <map>
#include <optional>

#include "cajal/data/image_set.h"
#include "cajal/study/study.h"
#include "cajal/surgery/subject_trials.h"

namespace {
using namespace cajal;
using surgery::IndexLists;
using surgery::SubjectBench;
using surgery::SubjectWorld;
using surgery::Taught;

SubjectWorld find_world(study::Lab& lab) {
  SubjectWorld out;
  out.size = lab.by_scale(20, 20, 28);
  const int64_t side = out.size / 2;
  if (!lab.smoke()) try {
      const auto set = data::read_image_set("fashion-mnist");
      out.items = data::items_of(set.train, side, 2500);
      out.held = data::items_of(set.test, side, 600);
      return out;
    } catch (const Error& absent) {
      lab.not_shown("items of fashion-mnist (generated forms instead)", absent.what());
    }
  out.items = data::generated_items(400, side, 1);
  out.held = data::generated_items(100, side, 2);
  return out;
}

surgery::SubjectBenchOptions bench_options(const study::Lab& lab) {
  surgery::SubjectBenchOptions o;
  if (lab.scale() != study::Scale::full) o.channels = {16, 32, 32}, o.blocks = 1;
  if (lab.smoke()) o.channels = {8, 8};
  o.noise_steps = lab.by_scale(20, 100, 200);
  o.base_steps = lab.by_scale(4, 1500, 6000), o.base_batch = lab.by_scale(8, 64, 64);
  o.judge_steps = lab.by_scale(2, 500, 1500);
  o.sample_steps = lab.by_scale(2, 20, 25);
  o.prior = lab.by_scale(4, 32, 64), o.prompts = lab.by_scale(4, 24, 64);
  o.held_draws = lab.by_scale(1, 12, 40);
  return o;
}

surgery::SubjectTrialOptions trial_options(const study::Lab& lab, uint64_t seed) {
  surgery::SubjectTrialOptions o;
  o.draws = lab.by_scale(2, 200, 600), o.sweep_draws = lab.by_scale(2, 60, 300);
  o.tune_steps = lab.by_scale(1, 80, 400), o.union_steps = lab.by_scale(1, 100, 100);
  o.kept = seed == lab.seeds()[0] ? 2 : 0;
  return o;
}

/// What each method draws, one row a method, two pictures a subject.
plot::HeatMap painted(const std::map<std::string, std::vector<Taught>>& methods, size_t subjects) {
  plot::HeatMap map;
  map.title = "What each method draws (two pictures of each subject)";
  for (const char* name :
       {surgery::kBaseModel, surgery::kRandomMask, surgery::kGateMask, surgery::kFullTuning}) {
    const auto& all = methods.at(name);
    const auto lines = all[0].picture.size();
    for (size_t y = 0; y < lines; ++y) {
      map.rows.push_back(y == lines / 2 ? name : "");
      auto& row = map.values.emplace_back();
      for (size_t s = 0; s < subjects; ++s)
        row.insert(row.end(), all[s].picture[y].begin(), all[s].picture[y].end());
    }
  }
  map.columns.assign(map.values.front().size(), "");
  return map;
}

void run(study::Lab& lab) {
  // Trained when a part first needs it, so that a run that goes on trains it again.
  std::optional<SubjectBench> made;
  const auto bench = [&]() -> SubjectBench& {
    return made ? *made : made.emplace(find_world(lab), bench_options(lab));
  };
  const auto checks = lab.part("gates", [&] { return surgery::check_gates(bench()); });
  lab.claim("dL/dk against the gate as a leaf of the graph").measured(checks.leaf).at_most(1e-6);
  lab.claim("dL/dk along a direction against finite differences, relative")
      .measured(checks.differences)
      .at_most(1e-3);
  lab.claim("shut and restored, encoded and decoded: bit by bit").holds(checks.undone);

  std::map<std::string, std::vector<Taught>> methods;
  std::vector<std::string> order;
  study::Figure shares, overlap, base, united, joint, summed;
  double weights = 0;
  auto doses = lab.table("the mask's gates at", {"seed", "gate", "L_con", "subject seen"});
  auto sizes = lab.table("how much to shut", {"seed", "share", "keys of it", "fall of L_con",
                                              "subject seen", "drift of the base loss"});
  for (const auto seed : lab.seeds()) {
    const auto options = trial_options(lab, seed);
    std::vector<IndexLists> masks;
    for (int which = 0; which < SubjectWorld::kSubjects; ++which) {
      auto masked = lab.part(fmt::format("masks of subject {}", which), seed,
                             [&] { return surgery::try_masks(bench(), which, seed, options); });
      for (auto& t : lab.part(fmt::format("tuning of subject {}", which), seed,
                              [&] { return surgery::try_tuning(bench(), which, seed, options); }))
        masked.methods.push_back(std::move(t));
      for (auto& t : masked.methods) {
        auto& all = methods[t.method];
        if (all.empty()) order.push_back(t.method);
        all.push_back(std::move(t));
      }
      weights = static_cast<double>(masked.mask.entries());
      shares.values.push_back(static_cast<double>(masked.mask.count()) / weights);
      masks.push_back(std::move(masked.mask));
    }
    for (const auto& d :
         lab.part("doses", seed, [&] { return surgery::try_doses(bench(), masks[0], 0, seed); }))
      doses.row(seed, d.gate, d.loss, d.seen);
    for (const auto& m :
         lab.part("sizes", seed, [&] { return surgery::try_sizes(bench(), 0, seed, options); }))
      sizes.row(seed, m.share, m.keys, m.scores.drop, m.scores.seen, m.scores.drift);
    for (const auto& [a, b] : {std::pair(0, 1), {1, 2}, {0, 2}}) {
      const auto both = lab.part(fmt::format("subjects {} and {}", a, b), seed, [&, a = a, b = b] {
        return surgery::try_both(bench(), a, b, masks, seed, options);
      });
      base.values.push_back(both.base), united.values.push_back(both.united);
      joint.values.push_back(both.tuned), summed.values.push_back(both.summed);
      overlap.values.push_back(
          surgery::jaccard(masks[static_cast<size_t>(a)], masks[static_cast<size_t>(b)]));
    }
  }

  const auto figure = [&](const std::string& name, double surgery::SubjectScores::*of) {
    study::Figure out;
    for (const auto& t : methods[name]) out.values.push_back(t.scores.*of);
    return out;
  };
  const auto cost = [&](const std::string& name, double Taught::*of) {
    study::Figure out;
    for (const auto& t : methods[name]) out.values.push_back(t.*of);
    return out;
  };
  using Scores = surgery::SubjectScores;
  auto table = lab.table("methods, over subjects and seeds",
                         {"method", "fall of L_con", "subject seen", "likeness", "place obeyed",
                          "drift of the base loss", "bytes", "seconds"});
  for (const auto& name : order)
    table.row(name, figure(name, &Scores::drop), figure(name, &Scores::seen),
              figure(name, &Scores::likeness), figure(name, &Scores::obeyed),
              figure(name, &Scores::drift), cost(name, &Taught::bytes),
              cost(name, &Taught::seconds));
  auto pairs = lab.table("two subjects at once", {"method", "both seen"});
  pairs.row("base model", base), pairs.row("union of masks", united);
  pairs.row("union, 100 steps of its entries", joint);
  pairs.row("sum of key and value changes", summed);

  const auto own = figure(surgery::kGateMask, &Scores::drop),
             random = figure(surgery::kRandomMask, &Scores::drop);
  lab.claim("share of the key and value weights shut").measured(shares).in_percent().at_most(0.02);
  lab.claim("fall of L_con over that of key and value fine-tuning")
      .paper("zeroing alone yields the subject")
      .measured(own.mean() / figure(surgery::kKeyValueTuning, &Scores::drop).mean())
      .in_percent()
      .at_least(0.25);
  for (const char* rival : {surgery::kRandomMask, "magnitude"})
    lab.claim(fmt::format("fall of L_con with masks as large: {}", rival))
        .measured(figure(rival, &Scores::drop))
        .at_most(0);
  study::Figure more;
  for (size_t i = 0; i < own.values.size(); ++i)
    more.values.push_back(own.values[i] - random.values[i]);
  lab.claim("t of the fall above random masks, paired (1.86: p = 0.05 for 9 pairs)")
      .measured(more.mean() /
                (more.spread() / std::sqrt(static_cast<double>(more.values.size())) + 1e-12))
      .at_least(1.86);
  const auto seen = [&](const char* name) { return figure(name, &Scores::seen).mean(); };
  lab.claim("subject seen, above the base model")
      .paper("comparable to DreamBooth")
      .measured(seen(surgery::kGateMask) - seen(surgery::kBaseModel))
      .in_percent()
      .at_least(0.15);
  lab.claim("subject seen, above random masks")
      .measured(seen(surgery::kGateMask) - seen(surgery::kRandomMask))
      .in_percent()
      .at_least(0.15);
  lab.claim("drift of the base loss")
      .measured(figure(surgery::kGateMask, &Scores::drift))
      .in_percent()
      .at_most(0.05);
  lab.claim("bytes of a mask over those of the key and value changes in fp32")
      .paper("10 %")
      .measured(cost(surgery::kGateMask, &Taught::bytes).mean() / (4 * weights))
      .in_percent()
      .at_most(0.1);
  lab.claim("two subjects, union of masks and 100 steps: both seen")
      .paper("up to four subjects")
      .measured(joint)
      .in_percent()
      .at_least(0.5);
  lab.claim("binary mask against soft gates: difference of subject seen")
      .paper("robust")
      .measured(std::abs(seen(surgery::kGateMask) - seen(surgery::kSoftGates)))
      .in_percent()
      .at_most(0.05);
  lab.note(
      fmt::format("Masks of two subjects overlap by {:.3f} (Jaccard); union without tuning "
                  "shows both in {:.0f} % of pictures.",
                  overlap.mean(), 100 * united.mean()));
  lab.not_shown("pictures of Stable Diffusion's quality", "no such model ships");
  lab.not_shown("three and four subjects at once",
                "the base model has learned from captions of one or two things");
  lab.plot(painted(methods, SubjectWorld::kSubjects));
}

const auto registered = study::add({.slug = "concept-neurons"}, run);
}  // namespace
