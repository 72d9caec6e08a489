#include <algorithm>

#include "cajal/atlas/zoo_world.h"
#include "cajal/core/timing.h"
#include "cajal/study/images.h"

namespace {
using namespace cajal;
using atlas::UnitMaps;
using atlas::UnitViews;
using atlas::ZooKind;
using torch::Tensor;

/// Works when 1: models whose common units are known; {recall, precision, private pairs} of best
/// buddies above the null, then {recall, precision} of each rival, of the worse of two models.
std::vector<double> planted(study::Lab& lab) {
  const auto world = atlas::plant_units(3, 24, 40, lab.by_scale(60, 400, 1000));
  std::vector<double> out = {1, 1, 0, 1, 1, 1, 1, 1, 1};
  for (size_t m = 1; m < 3; ++m) {
    const auto match = atlas::match_units(world.models[0], world.models[m]);
    auto one_way = atlas::one_way_best(match.table);
    std::erase_if(one_way, [&](const auto& p) { return p.score <= match.threshold; });
    std::vector<atlas::UnitPair> random;
    const auto order = torch::randperm(match.table.size(1));
    for (int64_t u = 0; u < match.table.size(0); ++u)
      random.push_back({u, order[u].item<int64_t>(), 0});
    size_t at = 0;
    for (const auto& pairs : {match.above(), one_way, atlas::pairs_by_name(world, 0, m), random}) {
      const auto q = atlas::judge_pairs(pairs, world, 0, m);
      out[at] = std::min(out[at], q.recall), out[at + 1] = std::min(out[at + 1], q.precision);
      if (at == 0) out[2] += static_cast<double>(q.wrong);
      at += at == 0 ? 3 : 2;
    }
  }
  return out;
}

void show_planted(study::Lab& lab) {
  const auto f = lab.over_seeds("planted", [&](uint64_t) { return planted(lab); });
  auto table = lab.table("planted models: 24 units in common, 40 of their own",
                         {"pairs", "recall", "precision"});
  table.row("best buddies above the null", f[0], f[1]);
  table.row("one-way best above the null", f[3], f[4]);
  table.row("called alike (IoU with the true fields)", f[5], f[6]);
  table.row("random", f[7], f[8]);
  lab.claim("planted: recall of shared units").measured(f[0]).at_least(0.98);
  lab.claim("planted: precision of shared units").measured(f[1]).at_least(0.98);
  lab.claim("planted: best buddies of private channels above the null").measured(f[2]).at_most(0);
}

/// Works when 2 and 7: {distance from a double loop, change with the batches, distance of a model's
/// diagonal from 1, times faster than pair by pair, bytes held over 8 a pair of units}.
std::vector<double> mechanics(const study::Lab& lab) {
  const auto views = [](const UnitMaps& maps, int64_t batch) {
    UnitViews out;
    for (int64_t at = 0; at < maps[0].size(0); at += batch) {
      auto& some = out.batches.emplace_back();
      for (const auto& m : maps) some.push_back(m.slice(0, at, at + batch));
    }
    atlas::UnitStatisticsPass pass;
    for (const auto& b : out.batches) pass.add(b);
    out.statistics = pass.finish();
    return out;
  };
  const UnitMaps a{torch::randn({8, 12, 7, 7}), torch::randn({8, 8, 14, 14})},
      b{torch::randn({8, 20, 14, 14})};
  const auto va = views(a, 8), vb = views(b, 8);
  const auto table = atlas::match_units(va, vb).table;
  const auto worst = [](const Tensor& t) { return t.abs().max().item<double>(); };
  std::vector<double> out = {worst(table - atlas::naive_table(a, b, va.statistics, vb.statistics)),
                             worst(table - atlas::match_units(views(a, 3), views(b, 3)).table),
                             worst(atlas::match_units(va, va).table.diagonal() - 1)};

  const int64_t c = lab.by_scale(16, 96, 128);
  const UnitMaps big_a{torch::randn({64, c, 14, 14})}, big_b{torch::randn({64, c, 14, 14})};
  const auto sa = views(big_a, 64).statistics, sb = views(big_b, 64).statistics;
  const auto times = time_interleaved({[&] {
                                         atlas::UnitMatcher m(sa, sb);
                                         m.add(big_a, big_b), m.table();
                                       },
                                       [&] { atlas::naive_table(big_a, big_b, sa, sb); }},
                                      lab.by_scale(1, 3, 5), 1);
  out.push_back(times.ratio(1, 0));
  atlas::UnitMatcher many(sa, sb);
  for (int k = 0; k < 4; ++k) many.add(big_a, big_b);
  out.push_back(static_cast<double>(many.bytes()) / static_cast<double>(8 * c * c));
  return out;
}

void show_mechanics(study::Lab& lab) {
  const auto f = lab.part("mechanics", [&] { return mechanics(lab); });
  lab.claim("table against a double loop (20 x 20 units)").measured(f[0]).at_most(1e-5);
  lab.claim("change with the batch size").measured(f[1]).at_most(1e-5);
  lab.claim("a model with itself: distance of the diagonal from 1").measured(f[2]).at_most(1e-6);
  lab.claim("matching as one product: times faster than pair by pair").measured(f[3]).at_least(5);
  lab.claim("bytes held after four batches, over 8 for each pair of units")
      .paper("units x units")
      .measured(f[4])
      .at_most(2);
}

/// A set of pictures and what was trained on it.
struct OnPictures {
  study::ImageTask task;
  atlas::ZooWorld zoo;

  static OnPictures of(study::Lab& lab, const std::string& set) {
    auto task = study::find_images(lab, set);
    atlas::ZooWorld zoo(task.train.x, task.train.y,
                        {.training = {.steps = lab.by_scale<int64_t>(2, 375, 2000),
                                      .batch = lab.by_scale<int64_t>(8, 64, 128)},
                         .drawn = lab.by_scale(60, 1000, 1000)});
    return {std::move(task), std::move(zoo)};
  }
};

/// Works when 3 and 4 on one set of pictures.
void show_matches(study::Lab& lab, OnPictures& on, const std::string& set,
                  study::TableWriter& table) {
  study::Figure worst, common, sure, clusters;
  for (const auto seed : lab.seeds()) {
    double ratio = 1e300;
    std::vector<int64_t> all, above;
    for (const auto kind : {ZooKind::cnn, ZooKind::rotation, ZooKind::vit, ZooKind::masked}) {
      const auto fit =
          lab.part(set + ", " + to_name(kind), seed, [&] { return on.zoo.fit(kind, seed); });
      table.row(on.task.name, to_name(kind), seed, fit.generator_units, fit.units, fit.best,
                fit.above, fit.blank, fit.rotated, fit.mean, fit.one_way, fit.random, fit.threshold,
                fit.cka);
      ratio = std::min(ratio, static_cast<double>(fit.above) /
                                  static_cast<double>(std::max<int64_t>(1, fit.blank)));
      const auto keep = [&](std::vector<int64_t>& units, const std::vector<int64_t>& these) {
        if (kind == ZooKind::cnn) units = these;
        std::erase_if(units, [&](int64_t u) { return !std::count(these.begin(), these.end(), u); });
      };
      keep(all, fit.buddies), keep(above, fit.sure);
    }
    worst.values.push_back(ratio), common.values.push_back(static_cast<double>(all.size()));
    sure.values.push_back(static_cast<double>(above.size()));
    clusters.values.push_back(static_cast<double>(
        lab.part(set + ", clusters", seed, [&] { return on.zoo.clusters(all, seed); })));
  }
  lab.claim(set + ": best buddies above the null, times those of a random net, worst pair")
      .measured(worst)
      .at_least(3);
  lab.claim(set + ": units common to the generator and four models")
      .paper("tens")
      .measured(common)
      .at_least(5);
  lab.claim(set + ": clusters of them").measured(clusters).at_least(3);
  lab.note(fmt::format("{}: {} of the common units are above the null in all four.", set,
                       study::text(sure)));
}

/// Scores of pictures seen that way, inverted by each loss: {MSE, SSIM, agreement}.
const char* kLosses[] = {"pixel", "feature", "rosetta", "rosetta + pixel"};
std::vector<std::vector<double>> invert(const study::Lab& lab, OnPictures& on,
                                        const std::string& domain, uint64_t seed) {
  const auto& world = on.zoo.inversion(seed);
  const auto clean = on.task.test.first(lab.by_scale<int64_t>(4, 50, 50));
  const auto seen = domain == "edges only"          ? atlas::edges_of(clean.x)
                    : domain == "contrast inverted" ? 1 - clean.x
                                                    : clean.x;
  std::vector<std::vector<double>> out;
  for (auto o : std::vector<atlas::InversionOptions>{{.maps = 0, .pixels = 10},
                                                     {.maps = 0, .features = 0.1},
                                                     {.maps = 1},
                                                     {.maps = 1, .pixels = 1}}) {
    o.steps = lab.by_scale<int64_t>(3, 300, 1000), o.learning_rate = 0.05, o.seed = seed;
    const auto score = atlas::try_inversion(world, seen, clean.x, clean.y, o);
    out.push_back({score.mse, score.ssim, score.agreement});
  }
  return out;
}

/// Works when 5 and 6.
void show_inversions(study::Lab& lab, OnPictures& on) {
  auto table =
      lab.table("inversion of digits", {"seen", "loss", "seed", "MSE", "SSIM", "agreement"});
  const char* domains[] = {"as they are", "contrast inverted", "edges only"};
  study::Figure gain[3];
  for (const auto seed : lab.seeds())
    for (size_t d = 0; d < 3; ++d) {
      const auto scores = lab.part(std::string("inversion ") + domains[d], seed,
                                   [&] { return invert(lab, on, domains[d], seed); });
      for (size_t k = 0; k < scores.size(); ++k)
        table.row(domains[d], kLosses[k], seed, scores[k][0], scores[k][1], scores[k][2]);
      gain[d].values.push_back(scores[3][2] - scores[0][2]);
    }
  const auto moved = lab.over_seeds("shift", [&](uint64_t seed) {
    const auto& world = on.zoo.inversion(seed);
    torch::manual_seed(static_cast<int64_t>(seed) + 90);
    return atlas::shift_success(world, lab.by_scale(4, 50, 50), 3,
                                {.centre = true,
                                 .steps = lab.by_scale<int64_t>(3, 300, 1000),
                                 .learning_rate = 0.05,
                                 .seed = seed});
  });
  lab.claim("inversion: agreement of rosetta + pixel minus pixel")
      .paper("better")
      .measured(gain[0])
      .in_percent()
      .at_least(0);
  lab.claim("the same on contrast-inverted or edge-only digits, the better")
      .paper("better")
      .measured(std::max(gain[1].mean(), gain[2].mean()))
      .in_percent()
      .at_least(0.1);
  lab.claim("shift edits within 25 % of the way asked for")
      .paper("shown")
      .measured(moved)
      .in_percent()
      .at_least(0.8);
}

void run(study::Lab& lab) {
  show_planted(lab);
  show_mechanics(lab);
  auto matches =
      lab.table("best buddies between a generator and each model",
                {"pictures", "model", "seed", "units of G", "units", "best buddies",
                 "above the null", "above it, random net", "above it, rotated units", "mean S",
                 "one-way mean S", "mean S of random pairs", "null 99.9 %", "CKA of last layers"});
  for (const char* set : {"mnist", "fashion-mnist"}) {
    auto on = OnPictures::of(lab, set);
    show_matches(lab, on, set, matches);
    if (std::string(set) == "mnist") show_inversions(lab, on);
    if (lab.smoke()) break;
  }
  lab.note(
      "The masked autoencoder fills in masked patches in place (all tokens are kept), as in "
      "SimMIM.");
  lab.not_shown("the zoo of ImageNet models and GANs", "no such checkpoint ships");
}

const auto registered = study::add({.slug = "rosetta-neurons"}, run);
}  // namespace
