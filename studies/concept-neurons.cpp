#include <algorithm>
#include <cmath>
#include <map>
#include <optional>

#include "cajal/core/timing.h"
#include "cajal/data/image_set.h"
#include "cajal/study/study.h"
#include "cajal/surgery/subject_bench.h"

namespace {
using namespace cajal;
using surgery::IndexLists;
using surgery::NeuronScore;
using surgery::NoiseDraw;
using surgery::Subject;
using surgery::SubjectBench;
using surgery::SubjectWorld;
using surgery::TunedPart;
using torch::Tensor;

const char *kBase = "base model", *kOwn = "concept neurons: gates",
           *kSoft = "soft gates of all weights", *kRandom = "random, as many of each matrix",
           *kTuned = "key and value fine-tuning";

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

/// A way to teach one subject, and what came of it.
struct Taught {
  std::string method;
  surgery::SubjectScores scores = {};
  double bytes = 0, seconds = 0;
  std::vector<std::vector<double>> picture = {};  // two drawn ones beside each other
};
CAJAL_OPTIONS(Taught, method, scores, bytes, seconds, picture)

struct Masked {
  IndexLists mask;  // of the gates
  std::vector<Taught> methods;
};
CAJAL_OPTIONS(Masked, mask, methods)

class Cones {
 public:
  explicit Cones(study::Lab& lab) : lab_(lab), world_(find_world(lab)) {}

  /// Trained when a part first needs it, so that a run that goes on trains it again.
  SubjectBench& bench() {
    if (bench_) return *bench_;
    surgery::SubjectBenchOptions o;
    if (lab_.scale() != study::Scale::full) o.channels = {16, 32, 32}, o.blocks = 1;
    if (lab_.smoke()) o.channels = {8, 8};
    o.noise_steps = lab_.by_scale<int64_t>(20, 100, 200);
    o.base_steps = lab_.by_scale<int64_t>(4, 1500, 6000);
    o.base_batch = lab_.by_scale<int64_t>(8, 64, 64);
    o.judge_steps = lab_.by_scale<int64_t>(2, 500, 1500);
    o.sample_steps = lab_.by_scale<int64_t>(2, 20, 25);
    o.prior = lab_.by_scale<int64_t>(4, 32, 64);
    o.held_draws = lab_.by_scale(1, 12, 40);
    o.prompts = lab_.by_scale<int64_t>(4, 24, 64);
    return bench_.emplace(world_, o);
  }

  /// {dL/dk against a leaf, against differences, whether shutting and coding undo bit by bit, base
  /// loss, key and value weights}.
  std::vector<double> mechanics();
  /// Masks of one subject by every score.
  Masked mask(int which, uint64_t seed);
  /// The same subject taught by gradient steps.
  std::vector<Taught> tune(int which, uint64_t seed);
  /// The gates of the mask of subject 0 moved from 1 to 0 and beyond: {gate, L_con, seen}.
  std::vector<std::vector<double>> dose(const IndexLists& mask, uint64_t seed);
  /// Larger and smaller masks of it: {share, keys of it, fall of L_con, seen, drift}.
  std::vector<std::vector<double>> sweep(uint64_t seed);
  /// Two subjects at once: share of pictures that show both, by method.
  std::vector<double> combine(int a, int b, const std::vector<IndexLists>& masks, uint64_t seed);
  static constexpr const char* kTogether[] = {"base model", "union of masks",
                                              "union, 100 steps of its entries",
                                              "sum of key and value changes"};

 private:
  Taught taught(const std::string& method, const Subject& subject, int which, uint64_t seed,
                double bytes, double seconds) {
    auto& b = bench();
    Taught out{method, b.score(subject, which, seed), bytes, seconds, {}};
    if (seed != lab_.seeds()[0]) return out;
    const auto two = b.draw(b.prompts(which), seed + 40).slice(0, 0, 2);
    const auto row = two.squeeze(1).permute({1, 0, 2}).flatten(1).contiguous();
    for (int64_t y = 0; y < row.size(0); ++y) {
      const auto line = row[y].contiguous();
      out.picture.emplace_back(line.data_ptr<float>(), line.data_ptr<float>() + line.numel());
    }
    return out;
  }
  surgery::TuneOptions keys_and_values() const {
    return {
        .part = TunedPart::keys_values, .steps = lab_.by_scale<int64_t>(1, 80, 400), .rate = 2e-3};
  }

  study::Lab& lab_;
  SubjectWorld world_;
  std::optional<SubjectBench> bench_;
};

std::vector<double> Cones::mechanics() {
  auto& b = bench();
  auto& model = b.model();
  const auto subject = b.subject(0, 1);
  torch::manual_seed(5);
  auto draw = surgery::draw_noise(subject, b.schedule(), 4);
  draw.pictures = draw.pictures.to(torch::kDouble), draw.noise = draw.noise.to(torch::kDouble);
  model->to(torch::kDouble);
  std::vector<Tensor> gates, way;
  for (const auto& w : b.weights()) {
    gates.push_back((torch::rand_like(w) * 0.5 + 0.5).detach());
    way.push_back(torch::randn_like(w).detach());
  }
  const auto found = surgery::gate_gradients(model, b.schedule(), draw, gates, 1);
  double along = 0, chain = 0;
  for (size_t m = 0; m < gates.size(); ++m) along += (found[m] * way[m]).sum().item<double>();
  const auto loss_at = [&](double step) {
    const auto kept = surgery::snapshot(*model);
    for (size_t m = 0; m < gates.size(); ++m)
      b.weights()[m].detach().mul_(gates[m] + step * way[m]);
    const double loss = surgery::concept_loss(model, b.schedule(), std::vector<NoiseDraw>{draw});
    surgery::restore(*model, kept);
    return loss;
  };
  const double measured = (loss_at(1e-4) - loss_at(-1e-4)) / 2e-4;
  for (size_t a = 0; a < model->attentions.size(); ++a) {
    auto& key = model->attentions[a]->key;
    const auto parameter = key;
    const auto k = torch::ones_like(parameter).detach().requires_grad_(true);
    key = k * parameter;
    const auto g = torch::autograd::grad({surgery::concept_loss(model, b.schedule(), draw)}, {k});
    key = parameter;
    const auto own = surgery::gate_gradients(model, b.schedule(), draw, {}, 1)[2 * a];
    chain = std::max(chain, (g[0] - own).abs().max().item<double>());
  }
  model->to(torch::kFloat);
  b.restore();
  const auto mask = surgery::find_concept_neurons(model, b.schedule(), subject,
                                                  {.score = NeuronScore::random, .back_off = false})
                        .shut;
  const auto values = surgery::shut(b.weights(), mask);
  surgery::restore(b.weights(), mask, values);
  bool same = surgery::decode(surgery::encode(mask), "mask") == mask;
  const auto now = surgery::snapshot(*model);
  for (size_t i = 0; i < now.size(); ++i) same = same && torch::equal(now[i], b.original()[i]);
  return {chain, std::abs(measured / along - 1), same ? 1.0 : 0.0, b.base_loss(),
          static_cast<double>(b.weight_count())};
}

Masked Cones::mask(int which, uint64_t seed) {
  auto& b = bench();
  const auto subject = b.subject(which, seed);
  Masked out;
  out.methods.push_back(taught(kBase, subject, which, seed, 0, 0));
  const auto shut = [&](const std::string& name, const IndexLists& mask, double seconds) {
    surgery::shut(b.weights(), mask);
    out.methods.push_back(taught(name, subject, which, seed,
                                 static_cast<double>(surgery::encode(mask).size()), seconds));
    b.restore();
  };
  const auto search = [&](surgery::ConceptOptions options) {
    torch::manual_seed(static_cast<int64_t>(seed) + 7);
    options.draws = lab_.by_scale<int64_t>(2, 100, 600);
    return surgery::find_concept_neurons(b.model(), b.schedule(), subject, options);
  };
  const Stopwatch watch;
  const auto by_gates = search({});
  out.mask = by_gates.shut;
  shut(kOwn, out.mask, watch.seconds());
  for (size_t m = 0; m < by_gates.gates.size(); ++m)
    b.weights()[m].detach().mul_(by_gates.gates[m]);
  out.methods.push_back(
      taught(kSoft, subject, which, seed, 4 * static_cast<double>(b.weight_count()), 0));
  b.restore();
  const Stopwatch again;
  const auto at_once = search({.score = NeuronScore::one_shot}).shut;
  shut("one-shot t-statistic", at_once, again.seconds());
  const double share =
      static_cast<double>(out.mask.count()) / static_cast<double>(b.weight_count());
  for (const auto score : {NeuronScore::gradient, NeuronScore::magnitude})
    shut(to_name(score), search({.score = score, .share = share, .back_off = false}).shut, 0);
  torch::manual_seed(static_cast<int64_t>(seed) + 11);
  shut(kRandom, surgery::random_like(out.mask), 0);
  return out;
}

std::vector<Taught> Cones::tune(int which, uint64_t seed) {
  auto& b = bench();
  const auto subject = b.subject(which, seed);
  std::vector<Taught> out;
  for (const auto& [name, part, rate] :
       {std::tuple("full fine-tuning", TunedPart::everything, 5e-4),
        {kTuned, TunedPart::keys_values, 2e-3},
        {"token embedding", TunedPart::token, 2e-2},
        {"LoRA of rank 4", TunedPart::low_rank, 2e-3}}) {
    auto options = keys_and_values();
    options.part = part, options.rate = rate, options.words = {b.world().word_of(which)};
    torch::manual_seed(static_cast<int64_t>(seed) + 8);
    const Stopwatch watch;
    const auto bytes = surgery::tune(b.model(), b.schedule(), {subject}, options);
    out.push_back(taught(name, subject, which, seed, static_cast<double>(bytes), watch.seconds()));
    b.restore();
  }
  return out;
}

std::vector<std::vector<double>> Cones::dose(const IndexLists& mask, uint64_t seed) {
  auto& b = bench();
  const auto subject = b.subject(0, seed);
  std::vector<std::vector<double>> out;
  for (const double gate : {1.0, 0.75, 0.5, 0.25, 0.0, -0.5}) {
    auto values = surgery::shut(b.weights(), mask);
    for (auto& list : values)
      for (auto& v : list) v *= static_cast<float>(gate);
    surgery::restore(b.weights(), mask, values);
    out.push_back({gate, b.loss(subject, seed), b.score(subject, 0, seed).seen});
    b.restore();
  }
  return out;
}

std::vector<std::vector<double>> Cones::sweep(uint64_t seed) {
  auto& b = bench();
  const auto subject = b.subject(0, seed);
  std::vector<std::vector<double>> out;
  for (const double share : {0.005, 0.01, 0.02, 0.05, 0.1}) {
    torch::manual_seed(static_cast<int64_t>(seed) + 7);
    const auto mask =
        surgery::find_concept_neurons(b.model(), b.schedule(), subject,
                                      {.share = share, .draws = lab_.by_scale<int64_t>(2, 60, 300)})
            .shut;
    double keys = 0;
    for (size_t m = 0; m < mask.indices.size(); m += 2)
      keys += static_cast<double>(mask.indices[m].size());
    surgery::shut(b.weights(), mask);
    const auto s = b.score(subject, 0, seed);
    const auto count = static_cast<double>(mask.count());
    out.push_back({count / static_cast<double>(b.weight_count()), keys / std::max(1.0, count),
                   s.drop, s.seen, s.drift});
    b.restore();
  }
  return out;
}

std::vector<double> Cones::combine(int first, int second, const std::vector<IndexLists>& masks,
                                   uint64_t seed) {
  auto& b = bench();
  const auto seen = [&] {
    const double share = b.both_seen(first, second, seed);
    b.restore();
    return share;
  };
  const std::vector<Subject> subjects = {b.subject(first, seed), b.subject(second, seed)};
  const auto mask =
      surgery::unite(masks[static_cast<size_t>(first)], masks[static_cast<size_t>(second)]);
  std::vector<double> out = {seen()};
  surgery::shut(b.weights(), mask);
  out.push_back(seen());
  torch::manual_seed(static_cast<int64_t>(seed) + 9);
  surgery::tune(b.model(), b.schedule(), subjects,
                {.part = TunedPart::masked,
                 .steps = lab_.by_scale<int64_t>(1, 100, 100),
                 .rate = 2e-2,
                 .mask = mask});
  out.push_back(seen());
  std::vector<Tensor> sum;
  for (const auto& subject : subjects) {
    torch::manual_seed(static_cast<int64_t>(seed) + 8);
    surgery::tune(b.model(), b.schedule(), {subject}, keys_and_values());
    const auto tuned = surgery::snapshot(*b.model());
    for (size_t i = 0; i < tuned.size(); ++i) {
      const auto change = tuned[i] - b.original()[i];
      if (sum.size() <= i) sum.push_back(b.original()[i].clone());
      sum[i] += change;
    }
    b.restore();
  }
  surgery::restore(*b.model(), sum);
  out.push_back(seen());
  return out;
}

/// What each method draws, one row a method, two pictures a subject.
plot::HeatMap painted(const std::map<std::string, std::vector<Taught>>& methods, size_t subjects) {
  plot::HeatMap map;
  map.title = "What each method draws (two pictures of each subject)";
  for (const char* name : {kBase, kRandom, kOwn, "full fine-tuning"}) {
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
  Cones cones(lab);
  const auto m = lab.part("mechanics", [&] { return cones.mechanics(); });
  lab.claim("dL/dk against the gate as a leaf of the graph").measured(m[0]).at_most(1e-6);
  lab.claim("dL/dk along a direction against finite differences, relative")
      .measured(m[1])
      .at_most(1e-3);
  lab.claim("shut and restored, encoded and decoded: bit by bit").holds(m[2] == 1);
  lab.note(fmt::format("Base model: loss {:.4f}, {} key and value weights.", m[3], m[4]));

  std::map<std::string, std::vector<Taught>> methods;
  std::vector<std::string> order;
  study::Figure shares, overlap, together[4];
  auto doses = lab.table("the mask's gates at", {"seed", "gate", "L_con", "subject seen"});
  auto sizes = lab.table("how much to shut", {"seed", "share", "keys of it", "fall of L_con",
                                              "subject seen", "drift of the base loss"});
  for (const auto seed : lab.seeds()) {
    std::vector<IndexLists> masks;
    for (int which = 0; which < SubjectWorld::kSubjects; ++which) {
      auto masked = lab.part(fmt::format("masks of subject {}", which), seed,
                             [&] { return cones.mask(which, seed); });
      for (auto& taught : lab.part(fmt::format("tuning of subject {}", which), seed,
                                   [&] { return cones.tune(which, seed); }))
        masked.methods.push_back(std::move(taught));
      for (auto& taught : masked.methods) {
        auto& all = methods[taught.method];
        if (all.empty()) order.push_back(taught.method);
        all.push_back(std::move(taught));
      }
      shares.values.push_back(static_cast<double>(masked.mask.count()) / m[4]);
      masks.push_back(std::move(masked.mask));
    }
    for (const auto& d : lab.part("dose", seed, [&] { return cones.dose(masks[0], seed); }))
      doses.row(seed, d[0], d[1], d[2]);
    for (const auto& s : lab.part("sizes", seed, [&] { return cones.sweep(seed); }))
      sizes.row(seed, s[0], s[1], s[2], s[3], s[4]);
    for (const auto& [a, b] : {std::pair(0, 1), {1, 2}, {0, 2}}) {
      const auto both = lab.part(fmt::format("subjects {} and {}", a, b), seed,
                                 [&] { return cones.combine(a, b, masks, seed); });
      for (size_t k = 0; k < both.size(); ++k) together[k].values.push_back(both[k]);
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
  auto joint = lab.table("two subjects at once", {"method", "both seen"});
  for (size_t k = 0; k < 4; ++k) joint.row(Cones::kTogether[k], together[k]);

  const auto own = figure(kOwn, &Scores::drop), random = figure(kRandom, &Scores::drop);
  lab.claim("share of the key and value weights shut").measured(shares).in_percent().at_most(0.02);
  lab.claim("fall of L_con over that of key and value fine-tuning")
      .paper("zeroing alone yields the subject")
      .measured(own.mean() / figure(kTuned, &Scores::drop).mean())
      .in_percent()
      .at_least(0.25);
  for (const char* rival : {kRandom, "magnitude"})
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
      .measured(seen(kOwn) - seen(kBase))
      .in_percent()
      .at_least(0.15);
  lab.claim("subject seen, above random masks")
      .measured(seen(kOwn) - seen(kRandom))
      .in_percent()
      .at_least(0.15);
  lab.claim("drift of the base loss")
      .measured(figure(kOwn, &Scores::drift))
      .in_percent()
      .at_most(0.05);
  lab.claim("bytes of a mask over those of the key and value changes in fp32")
      .paper("10 %")
      .measured(cost(kOwn, &Taught::bytes).mean() / (4 * m[4]))
      .in_percent()
      .at_most(0.1);
  lab.claim("two subjects, union of masks and 100 steps: both seen")
      .paper("up to four subjects")
      .measured(together[2])
      .in_percent()
      .at_least(0.5);
  lab.claim("binary mask against soft gates: difference of subject seen")
      .paper("robust")
      .measured(std::abs(seen(kOwn) - seen(kSoft)))
      .in_percent()
      .at_most(0.05);
  lab.note(
      fmt::format("Masks of two subjects overlap by {:.3f} (Jaccard); union without tuning "
                  "shows both in {:.0f} % of pictures.",
                  overlap.mean(), 100 * together[1].mean()));
  lab.not_shown("pictures of Stable Diffusion's quality", "no such model ships");
  lab.not_shown("three and four subjects at once",
                "the base model has learned from captions of one or two things");
  lab.plot(painted(methods, SubjectWorld::kSubjects));
}

const auto registered = study::add({.slug = "concept-neurons"}, run);
}  // namespace
