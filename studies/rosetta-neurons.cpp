#include <algorithm>
#include <set>

#include "cajal/atlas/vision_zoo.h"
#include "cajal/core/timing.h"
#include "cajal/data/image_set.h"
#include "cajal/study/study.h"

namespace {
using namespace cajal;
using atlas::UnitMaps;
using torch::Tensor;

/// The table of two models on pictures; `pairing` moves b's pictures against a's.
struct Seen {
  std::vector<UnitMaps> batches;
  atlas::UnitStatistics statistics;
};
Seen look(const std::function<UnitMaps(const Tensor&)>& maps, const Tensor& pictures,
          int64_t batch = 100) {
  Seen out;
  atlas::UnitStatisticsPass pass;
  for (const auto& some : pictures.split(batch))
    out.batches.push_back(maps(some)), pass.add(out.batches.back());
  out.statistics = pass.finish();
  return out;
}
Tensor table_of(const Seen& a, const Seen& b, int64_t shift = 0) {
  atlas::UnitMatcher matcher(a.statistics, b.statistics);
  for (size_t i = 0; i < a.batches.size(); ++i) {
    auto other = b.batches[i];
    if (shift)
      for (auto& layer : other) layer = layer.roll(shift, 0);
    matcher.add(a.batches[i], other);
  }
  return matcher.table();
}
double threshold_of(const Seen& a, const Seen& b) {
  std::vector<Tensor> null;
  for (const int64_t shift : {1, 7, 23, 41}) null.push_back(table_of(a, b, shift));
  return atlas::null_threshold(null);
}
int64_t above(const Tensor& table, double threshold) {
  const auto pairs = atlas::mutual_best(table);
  return std::count_if(pairs.begin(), pairs.end(),
                       [&](const auto& p) { return p.score > threshold; });
}

/// Works when 1, 2 and 7: models whose common units are known.
void planted(study::Lab& lab) {
  const int64_t shared = 24, own = 40, images = lab.by_scale(60, 400, 1000), models = 3;
  const auto figures = lab.over_seeds([&](uint64_t) -> std::vector<double> {
    const auto blobs = [&](int64_t channels) {  // smooth fields, new for every picture
      return at::upsample_bilinear2d(torch::randn({images, channels, 5, 5}), {14, 14}, false);
    };
    const auto factors = blobs(shared);
    std::vector<Seen> seen;
    std::vector<std::vector<int64_t>> meaning;  // of each unit: a factor, or -1
    for (int64_t m = 0; m < models; ++m) {
      auto units = torch::cat({factors * (0.5 + torch::rand({1, shared, 1, 1})) +
                                   0.3 * torch::randn({images, shared, 14, 14}),
                               blobs(own)},
                              1);
      const auto order = torch::randperm(shared + own);
      units = units.index_select(1, order);
      if (m == 1) units = at::avg_pool2d(units, {2, 2});
      meaning.emplace_back();
      for (int64_t u = 0; u < shared + own; ++u)
        meaning.back().push_back(order[u].item<int64_t>() < shared ? order[u].item<int64_t>() : -1);
      int64_t begin = 0;
      seen.push_back(look(
          [&](const Tensor& x) {
            const auto part = units.slice(0, begin, begin + x.size(0));
            begin += x.size(0);
            return UnitMaps{part};
          },
          torch::zeros({images, 1}), 50));
    }
    double recall = 1, precision = 1, wrong = 0;
    for (int64_t m = 1; m < models; ++m) {
      const auto table = table_of(seen[0], seen[static_cast<size_t>(m)]);
      const double threshold = threshold_of(seen[0], seen[static_cast<size_t>(m)]);
      int64_t right = 0, found = 0;
      for (const auto& pair : atlas::mutual_best(table)) {
        if (pair.score <= threshold) continue;
        const auto a = meaning[0][static_cast<size_t>(pair.a)],
                   b = meaning[static_cast<size_t>(m)][static_cast<size_t>(pair.b)];
        ++found, right += a >= 0 && a == b, wrong += a < 0 && b < 0;
      }
      recall = std::min(recall, static_cast<double>(right) / shared);
      precision = std::min(precision,
                           found ? static_cast<double>(right) / static_cast<double>(found) : 0.0);
    }
    return {recall, precision, wrong};
  });
  lab.claim("planted: recall of shared units").paper("").measured(figures[0]).at_least(0.98);
  lab.claim("planted: precision of shared units").paper("").measured(figures[1]).at_least(0.98);
  lab.claim("planted: best buddies of private channels above the null")
      .paper("")
      .measured(figures[2])
      .at_most(0);

  const UnitMaps a{torch::randn({8, 12, 7, 7}), torch::randn({8, 8, 14, 14})},
      b{torch::randn({8, 20, 14, 14})};
  atlas::UnitStatisticsPass pa, pb;
  pa.add(a), pb.add(b);
  const auto sa = pa.finish(), sb = pb.finish();
  atlas::UnitMatcher whole(sa, sb), cut(sa, sb), self(sa, sa);
  whole.add(a, b), self.add(a, a);
  const auto part = [](const UnitMaps& maps, int64_t begin, int64_t end) {
    UnitMaps out;
    for (const auto& m : maps) out.push_back(m.slice(0, begin, end));
    return out;
  };
  cut.add(part(a, 0, 3), part(b, 0, 3)), cut.add(part(a, 3, 8), part(b, 3, 8));
  lab.claim("table against a double loop (20 x 20 units)")
      .paper("")
      .measured((whole.table() - atlas::naive_table(a, b, sa, sb)).abs().max().item<double>())
      .at_most(1e-5);
  lab.claim("change with the batch size")
      .paper("")
      .measured((whole.table() - cut.table()).abs().max().item<double>())
      .at_most(1e-5);
  lab.claim("a model with itself: distance of the diagonal from 1")
      .paper("")
      .measured((self.table().diagonal() - 1).abs().max().item<double>())
      .at_most(1e-6);

  const int64_t c = lab.by_scale(16, 96, 128);
  const UnitMaps big_a{torch::randn({64, c, 14, 14})}, big_b{torch::randn({64, c, 14, 14})};
  atlas::UnitStatisticsPass qa, qb;
  qa.add(big_a), qb.add(big_b);
  const auto ta = qa.finish(), tb = qb.finish();
  const auto times = time_interleaved({[&] {
                                         atlas::UnitMatcher m(ta, tb);
                                         m.add(big_a, big_b);
                                         m.table();
                                       },
                                       [&] { atlas::naive_table(big_a, big_b, ta, tb); }},
                                      lab.by_scale(1, 3, 5), 1);
  lab.claim("matching as one product: times faster than pair by pair")
      .paper("")
      .measured(times.ratio(1, 0))
      .at_least(5);
}

Tensor pictures_of(const data::LabelledImages& set, int64_t most) {
  const auto n = std::min<int64_t>(most, set.images.shape[0]);
  const auto values = set.images.values<uint8_t>();
  return torch::from_blob(const_cast<uint8_t*>(values.data()),
                          {set.images.shape[0], 1, set.images.shape[1], set.images.shape[2]},
                          torch::kByte)
             .slice(0, 0, n)
             .to(torch::kFloat) /
         255;
}
Tensor labels_of(const data::LabelledImages& set, int64_t most) {
  std::vector<int64_t> out(set.labels.begin(),
                           set.labels.begin() + std::min<int64_t>(most, std::ssize(set.labels)));
  return torch::tensor(out, torch::kLong);
}

/// Works when 3 to 6 on one image set.
class OnPictures {
 public:
  OnPictures(study::Lab& lab, const std::string& set) : lab_(lab) {
    Tensor labels;
    if (lab.smoke()) {
      name_ = "noise", train_ = torch::rand({64, 1, 28, 28}),
      labels = torch::randint(10, {64}, torch::kLong), test_ = train_.slice(0, 0, 20),
      test_labels_ = labels.slice(0, 0, 20);
    } else {
      const auto images = data::read_image_set(set, 0);
      name_ = images.name, train_ = pictures_of(images.train, 8000),
      labels = labels_of(images.train, 8000);
      test_ = pictures_of(images.test, 2000), test_labels_ = labels_of(images.test, 2000);
    }
    labels_ = labels;
  }

  /// {worst ratio of buddies to those of a random net, common units, clusters}
  std::vector<double> match(uint64_t seed, study::TableWriter& table) {
    const atlas::ZooOptions options{.steps = lab_.by_scale<int64_t>(2, 375, 2000),
                                    .batch = lab_.by_scale<int64_t>(8, 64, 128)};
    const auto generator = atlas::train_generator(
        train_, {.steps = 2 * options.steps, .batch = options.batch}, seed, 3);
    torch::manual_seed(static_cast<int64_t>(seed) + 50);
    const auto z = torch::randn({lab_.by_scale(20, 1000, 1000), generator.latent});
    Tensor pictures;
    {
      const torch::NoGradGuard no_grad;
      pictures = generator.run(z).first;
    }
    int64_t begin = 0;
    const auto g = look(
        [&](const Tensor& x) {
          const torch::NoGradGuard no_grad;
          auto maps = generator.run(z.slice(0, begin, begin + x.size(0))).second;
          begin += x.size(0);
          return maps;
        },
        pictures);
    double worst = 1e300;
    std::vector<Tensor> tables;
    for (const auto kind : {atlas::ZooKind::cnn, atlas::ZooKind::rotation, atlas::ZooKind::vit,
                            atlas::ZooKind::masked}) {
      const Stopwatch watch;
      const auto model = atlas::train_zoo_model(kind, train_, labels_, options, seed);
      const auto blank = atlas::train_zoo_model(kind, train_, labels_, {.steps = 0}, seed + 77);
      const auto f = look(model.maps, pictures), r = look(blank.maps, pictures);
      tables.push_back(table_of(g, f));
      const double limit = threshold_of(g, f), random_limit = threshold_of(g, r);
      const auto pairs = atlas::mutual_best(tables.back());
      const auto random_table = table_of(g, r);
      const auto good = above(tables.back(), limit),
                 random_good = above(random_table, random_limit);
      double mean = 0, one_way = 0;
      for (const auto& p : pairs) mean += p.score / static_cast<double>(pairs.size());
      for (const auto& p : atlas::one_way_best(tables.back()))
        one_way += p.score / static_cast<double>(tables.back().size(0));
      const auto last = [](const Seen& s) {
        std::vector<Tensor> all;
        for (const auto& b : s.batches) all.push_back(b.back().flatten(2).mean(2));
        return torch::cat(all);
      };
      const double ratio =
          static_cast<double>(good) / std::max<double>(1, static_cast<double>(random_good));
      worst = std::min(worst, ratio);
      table.row(name_, model.name, seed, tables.back().size(0), tables.back().size(1), pairs.size(),
                good, random_good, mean, one_way, limit, atlas::linear_cka(last(g), last(f)),
                watch.seconds());
      if (kind == atlas::ZooKind::cnn)
        anchor_.emplace(Anchor{generator, g.statistics, model, f, tables.back(), limit, g});
    }
    // Units that all four share, and how different they are.
    const auto common = atlas::rosetta_set(tables, 0);
    std::vector<int64_t> units;
    for (const auto& u : common) units.push_back(u.unit);
    double clusters = 0;
    if (!units.empty()) {
      const auto index = torch::tensor(units, torch::kLong);
      const auto alike = table_of(g, g).index_select(0, index).index_select(1, index);
      const auto of = atlas::cluster_units(alike, 0.5);
      clusters = static_cast<double>(std::set<int64_t>(of.begin(), of.end()).size());
    }
    return {worst, static_cast<double>(common.size()), clusters};
  }

  /// {rosetta + pixel minus pixel agreement: in domain, inverted, edges; share of shifts}
  std::vector<double> invert_and_edit(uint64_t seed, study::TableWriter& table) {
    auto& a = *anchor_;
    const int64_t n = std::min<int64_t>(lab_.by_scale(4, 50, 50), test_.size(0)),
                  steps = lab_.by_scale<int64_t>(3, 300, 1000);
    std::vector<atlas::UnitPair> pairs;
    for (const auto& p : atlas::mutual_best(a.table))
      if (p.score > a.threshold && pairs.size() < 40) pairs.push_back(p);
    const auto features = [&](const Tensor& x) { return a.judge.logits(x); };
    const auto clean = test_.slice(0, 0, n);
    const auto edges = [](const Tensor& x) {
      const auto dx = (x - x.roll(1, 3)).abs(), dy = (x - x.roll(1, 2)).abs();
      return torch::clamp(dx + dy, 0, 1);
    };
    std::vector<double> gains;
    for (const auto& [domain, seen] : {std::pair<std::string, Tensor>("as they are", clean),
                                       {"contrast inverted", 1 - clean},
                                       {"edges only", edges(clean)}}) {
      UnitMaps raw = a.judge.maps(seen);
      const auto maps = atlas::normalise_units(raw, a.judge_seen.statistics);
      std::vector<atlas::MapTarget> targets;
      for (const auto& p : pairs) targets.push_back({p.a, atlas::unit_map(maps, p.b)});
      double pixel = 0, both = 0;
      for (const auto& [loss, maps_weight, pixels, feature] :
           {std::tuple<const char*, double, double, double>("pixel", 0, 10, 0),
            {"feature", 0, 0, 0.1},
            {"rosetta", 1, 0, 0},
            {"rosetta + pixel", 1, 1, 0}}) {
        const auto z = atlas::invert(a.generator, a.statistics, targets, seen,
                                     {.maps = maps_weight,
                                      .pixels = pixels,
                                      .features = feature,
                                      .steps = steps,
                                      .learning_rate = 0.05,
                                      .seed = seed},
                                     features);
        const torch::NoGradGuard no_grad;
        const auto made = a.generator.run(z).first;
        const double agreement = a.judge.logits(made)
                                     .argmax(-1)
                                     .eq(test_labels_.slice(0, 0, n))
                                     .to(torch::kDouble)
                                     .mean()
                                     .item<double>();
        table.row(name_, domain, loss, seed, (made - clean).square().mean().item<double>(),
                  atlas::structural_similarity(made, clean).mean().item<double>(), agreement);
        if (std::string(loss) == "pixel") pixel = agreement;
        if (std::string(loss) == "rosetta + pixel") both = agreement;
      }
      gains.push_back(both - pixel);
    }
    // Shift: the same picture, with the maps of its matched units moved.
    torch::manual_seed(static_cast<int64_t>(seed) + 90);
    const auto z = torch::randn({n, a.generator.latent}) * 0.7;
    const double by = 3;
    std::vector<atlas::MapTarget> targets;
    Tensor before;
    {
      const torch::NoGradGuard no_grad;
      const auto [made, raw] = a.generator.run(z);
      before = atlas::centroid(made);
      const auto maps = atlas::normalise_units(raw, a.statistics);
      for (const auto& p : pairs) {
        const auto map = atlas::unit_map(maps, p.a);
        targets.push_back(
            {p.a, atlas::shift_map(map, by * static_cast<double>(map.size(2)) / 28, 0)});
      }
    }
    if (targets.empty()) return {gains[0], gains[1], gains[2], 0};
    const auto moved =
        atlas::invert(a.generator, a.statistics, targets, {},
                      {.centre = true, .steps = steps, .learning_rate = 0.05, .seed = seed}, {}, z);
    const torch::NoGradGuard no_grad;
    const auto way = (atlas::centroid(a.generator.run(moved).first) - before).select(1, 0);
    const double share = ((way - by).abs() <= 0.25 * by).to(torch::kDouble).mean().item<double>();
    return {gains[0], gains[1], gains[2], share};
  }

 private:
  struct Anchor {
    atlas::Generator generator;
    atlas::UnitStatistics statistics;
    atlas::ZooModel judge;
    Seen judge_seen;
    Tensor table;
    double threshold;
    Seen generator_seen;
  };
  study::Lab& lab_;
  std::string name_;
  Tensor train_, labels_, test_, test_labels_;
  std::optional<Anchor> anchor_;
};

void run(study::Lab& lab) {
  planted(lab);
  auto matches = lab.table("best buddies between a generator and each model",
                           {"pictures", "model", "seed", "units of G", "units", "best buddies",
                            "above the null", "above it, random net", "mean S", "one-way mean S",
                            "null 99.9 %", "CKA of last layers", "seconds"});
  auto inversions =
      lab.table("inversion", {"pictures", "seen", "loss", "seed", "MSE", "SSIM", "agreement"});
  for (const char* set : {"mnist", "fashion-mnist"}) {
    std::optional<OnPictures> pictures;
    try {
      pictures.emplace(lab, set);
    } catch (const Error& absent) {
      lab.not_shown(set, absent.what());
      continue;
    }
    const std::string which = set;
    const bool digits = which == "mnist";
    const auto f = lab.over_seeds([&](uint64_t seed) {
      auto out = pictures->match(seed, matches);
      if (digits)
        for (const double v : pictures->invert_and_edit(seed, inversions)) out.push_back(v);
      return out;
    });
    lab.claim(which + ": best buddies above the null, times those of a random net, worst pair")
        .paper("")
        .measured(f[0])
        .at_least(3);
    lab.claim(which + ": units common to the generator and four models")
        .paper("tens")
        .measured(f[1])
        .at_least(5);
    lab.claim(which + ": clusters of them").paper("").measured(f[2]).at_least(3);
    if (digits) {
      lab.claim("inversion: agreement of rosetta + pixel minus pixel")
          .paper("better")
          .measured(f[3])
          .in_percent()
          .at_least(0);
      lab.claim("the same on contrast-inverted or edge-only digits, the better")
          .paper("better")
          .measured(std::max(f[4].mean(), f[5].mean()))
          .in_percent()
          .at_least(0.1);
      lab.claim("shift edits within 25 % of the way asked for")
          .paper("shown")
          .measured(f[6])
          .in_percent()
          .at_least(0.8);
    }
    if (lab.smoke()) break;
  }
  lab.note(
      "The masked autoencoder fills in masked patches in place (all tokens are kept), as in "
      "SimMIM.");
  lab.not_shown("the zoo of ImageNet models and GANs", "no such checkpoint ships");
}

const auto registered = study::add({.slug = "rosetta-neurons"}, run);
}  // namespace
