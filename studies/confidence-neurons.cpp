#include <algorithm>

#include "cajal/atlas/confidence_control.h"
#include "cajal/atlas/planted_readout.h"
#include "cajal/atlas/text.h"
#include "cajal/core/timing.h"
#include "cajal/math/calibration.h"
#include "cajal/math/ranks.h"
#include "cajal/models/lm/checkpoint.h"
#include "cajal/study/subject.h"
#include "cajal/study/trained_seed.h"

namespace {
using namespace cajal;
using atlas::Ablation;
using atlas::Freeze;

atlas::PlantedReadout plant(study::Lab& lab, bool layer_norm, uint64_t seed, double length) {
  seed_everything(seed);
  return atlas::plant_readout({.layer_norm = layer_norm,
                               .neurons = lab.by_scale(64, 384, 384),
                               .vocabulary = lab.by_scale(500, 2000, 2000),
                               .tokens = lab.by_scale(32, 128, 256),
                               .length = length});
}

void add(study::TableWriter& table, const std::string& first, const std::string& second,
         const std::vector<double>& figures) {
  std::vector<study::Cell> cells{first, second};
  for (const double x : figures) cells.emplace_back(x);
  table.add(std::move(cells));
}

/// How long the entropy neurons are, against 1 of the others: the least of some lengths at which
/// they act through the norm, on seeds that no claim is judged by.
double choose_length(study::Lab& lab) {
  auto table = lab.table("length of planted entropy neurons, chosen on seeds 1000 to 1002",
                         {"length", "least norm share"});
  double chosen = 0;
  for (const double length : {1.5, 3.0, 6.0, 12.0}) {
    const auto least = lab.part(fmt::format("length {}", length), [&] {
      double out = 1;
      for (const bool layer_norm : {true, false})
        for (int seed = 0; seed < lab.by_scale(1, 3, 3); ++seed) {
          const auto p = plant(lab, layer_norm, static_cast<uint64_t>(1000 + seed), length);
          const Ablation ablation(p.readout, p.stream, p.unigram, p.counts);
          for (int64_t n = 0; n < 8; ++n)
            out = std::min(out, atlas::effect_of(ablation, n).norm_share());
        }
      return out;
    });
    table.row(length, least);
    if (chosen == 0 && (least >= 0.98 || length == 12)) chosen = length;
  }
  return chosen;
}

struct OnPlanted {
  double exact = 0, entropy = 0, gap = 0, unigram = 0;
  std::vector<std::vector<double>> rows;  // entropy, frequency and ordinary neurons, mean figures
};
CAJAL_OPTIONS(OnPlanted, exact, entropy, gap, unigram, rows)

OnPlanted on_planted(const atlas::PlantedReadout& p) {
  const auto space = atlas::null_space(p.readout);
  const auto rho = atlas::null_share(p.readout, space, p.readout.value);
  const auto top = std::get<0>(std::get<1>(rho.topk(8)).sort());
  const Ablation ablation(p.readout, p.stream, p.unigram, p.counts);
  const auto u = atlas::writes(p.readout, p.readout.value);
  OnPlanted out;
  out.exact = space.basis.size(1) == 8 && top.equal(torch::arange(8, torch::kLong));
  for (const auto& [begin, end] : {std::pair(0, 8), {8, 16}, {16, 48}}) {
    const auto w = p.readout.value.slice(0, begin, begin + 8);
    study::Figure total, direct, norm, unigram;
    for (int64_t n = begin; n < end; ++n) {
      const auto e = atlas::effect_of(ablation, n);
      total.values.push_back(e.total), direct.values.push_back(e.direct);
      norm.values.push_back(e.norm_share()), unigram.values.push_back(e.unigram_share());
    }
    out.rows.push_back({w.norm(2, 1).mean().item<double>(),
                        u.slice(0, begin, begin + 8).var(1).mean().item<double>(),
                        rho.slice(0, begin, begin + 8).mean().item<double>(), total.mean(),
                        direct.mean(), norm.mean(), unigram.mean()});
    const auto least = [](const study::Figure& f) {
      return *std::min_element(f.values.begin(), f.values.end());
    };
    if (begin == 0) out.entropy = least(norm);
    if (begin == 8) out.unigram = least(unigram);
    if (begin == 16) out.gap = out.entropy - median(norm.values);
  }
  return out;
}

/// Claim 1.
void planted(study::Lab& lab) {
  const double length = choose_length(lab);
  auto table = lab.table("planted neurons", {"norm", "kind", "|w|", "logit variance", "null share",
                                             "total", "direct", "norm share", "unigram share"});
  std::vector<double> exact, entropy, gap, unigram;
  for (const bool layer_norm : {true, false})
    for (uint64_t seed = 0; seed < lab.by_scale<uint64_t>(1, 5, 5); ++seed) {
      const char* norm = layer_norm ? "LayerNorm" : "RMSNorm";
      const auto found = lab.part(fmt::format("planted, {}", norm), seed,
                                  [&] { return on_planted(plant(lab, layer_norm, seed, length)); });
      exact.push_back(found.exact), entropy.push_back(found.entropy);
      gap.push_back(found.gap), unigram.push_back(found.unigram);
      const char* kinds[] = {"entropy", "frequency", "ordinary"};
      for (size_t k = 0; k < 3 && seed == 0; ++k) add(table, norm, kinds[k], found.rows[k]);
    }
  lab.claim("planted: the top by null share are the entropy neurons")
      .paper("")
      .holds(*std::min_element(exact.begin(), exact.end()) == 1);
  lab.claim("planted: least norm share of an entropy neuron")
      .paper("about 0.8")
      .measured(entropy)
      .at_least(0.98);
  lab.claim("planted: that above the median of ordinary ones")
      .paper("")
      .measured(gap)
      .at_least(0.6);
  lab.claim("planted: least unigram share of a frequency neuron")
      .paper("")
      .measured(unigram)
      .at_least(0.9);
}

/// Errors of loss and entropy against recomputation, what freezing both leaves, and the seconds of
/// rank-1 ablation, of recomputing in fp32, and their ratio.
std::vector<double> rank_one(study::Lab& lab, int64_t vocabulary) {
  const auto p = atlas::plant_readout({.width = 512,
                                       .neurons = 512,
                                       .vocabulary = vocabulary,
                                       .tokens = lab.by_scale(16, 64, 256)});
  const Ablation ablation(p.readout, p.stream, p.unigram);
  double loss = 0, entropy = 0, identity = 0;
  for (const int64_t n : {0, 9, 20, 511})
    for (const auto freeze : {Freeze::nothing, Freeze::scale, Freeze::unigram}) {
      const auto fast = ablation.run(n, freeze), slow = ablation.recomputed(n, freeze);
      for (size_t t = 0; t < fast.size(); ++t) {
        loss = std::max(loss, std::fabs(fast[t].loss - slow[t].loss));
        entropy = std::max(entropy, std::fabs(fast[t].entropy - slow[t].entropy));
      }
    }
  const auto frozen = ablation.run(0, Freeze::scale);  // in the null space: nothing direct is left
  for (size_t t = 0; t < frozen.size(); ++t)
    identity = std::max(identity, std::fabs(frozen[t].loss - ablation.before()[t].loss));
  const auto recomputed = [&] {  // in fp32, as the ablation is
    const auto a = p.stream.activations.select(1, 20);
    const auto log_p = torch::log_softmax(
        p.readout.logits(p.stream.stream + torch::outer(a.mean() - a, p.readout.value[20])), 1);
    log_p.gather(1, p.stream.targets.unsqueeze(1));
    (log_p.exp() * log_p).sum(1);
    log_p.argmax(1);
  };
  const auto times = time_interleaved({[&] { ablation.run(20, Freeze::nothing); }, recomputed},
                                      lab.by_scale(3, 15, 50));
  return {
      loss, entropy, identity, times.median_seconds(0), times.median_seconds(1), times.ratio(1, 0)};
}

/// Claims 2 and 3.
void exactness(study::Lab& lab) {
  auto table = lab.table("rank-1 ablation beside recomputation",
                         {"vocabulary", "width", "error of loss", "of entropy", "ms",
                          "recomputed ms", "times faster"});
  double worst = 0, slowest = 1e9, identity = 0;
  for (const int64_t v :
       lab.smoke() ? std::vector<int64_t>{512} : std::vector<int64_t>{2048, 8192, 50'000}) {
    const auto f = lab.part(fmt::format("rank-1 ablation, vocabulary {}", v),
                            [&] { return rank_one(lab, v); });
    table.row(v, 512, f[0], f[1], 1e3 * f[3], 1e3 * f[4], f[5]);
    worst = std::max({worst, f[0], f[1]}), identity = std::max(identity, f[2]);
    slowest = std::min(slowest, f[5]);
  }
  lab.claim("largest error of rank-1 ablation in loss or entropy, nats")
      .paper("")
      .measured(worst)
      .at_most(1e-5);
  lab.claim("rank-1 ablation: least times faster").paper("").measured(slowest).at_least(10);
  lab.claim("a null-space neuron with the scale frozen changes the loss by")
      .paper("0")
      .measured(identity)
      .at_most(1e-6);
}

struct OnModel {
  double spearman = 0, sigmas = 0;
  std::vector<int64_t> by_rho;            // the top by null share
  std::vector<std::vector<double>> rows;  // sets of neurons, mean figures
};
CAJAL_OPTIONS(OnModel, spearman, sigmas, by_rho, rows)
const char* const sets[] = {"top 6 by null share", "top 6 by |cos unigram|", "100 random",
                            "as long, low null share"};

/// Claim 4 on one model.
OnModel on_model(lm::Transformer model, const std::vector<int32_t>& text, int64_t tokens) {
  const auto last =
      atlas::last_layer(model, text, std::min<int64_t>(256, model->config.context), tokens);
  const int64_t m = std::ssize(last.effects);
  std::vector<double> totals, rho, share;
  for (const auto& e : last.effects) totals.push_back(e.total);
  const double least = 0.1 * median(totals);  // smaller effects are negligible
  for (int64_t n = 0; n < m; ++n)
    if (totals[n] > least)
      rho.push_back(last.null_share[n].item<double>()),
          share.push_back(last.effects[n].norm_share());
  OnModel out;
  out.spearman = math::spearman(rho, share);
  const auto indices = [](const torch::Tensor& order) {
    const auto all = order.contiguous();
    return std::vector<int64_t>(all.data_ptr<int64_t>(), all.data_ptr<int64_t>() + all.numel());
  };
  out.by_rho = indices(std::get<1>(last.null_share.topk(std::max<int64_t>(6, m / 100))));
  const std::vector<int64_t> six(out.by_rho.begin(), out.by_rho.begin() + 6);
  const auto shuffled = indices(torch::randperm(m, torch::kLong).slice(0, 0, 100));
  // Of those of the lower half of null shares, the nearest in length to each of the six.
  const auto low = last.null_share <= last.null_share.median();
  std::vector<int64_t> as_long;
  for (const auto n : six) {
    auto distance = (last.length - last.length[n]).abs().masked_fill(~low, INFINITY);
    for (const auto taken : as_long) distance[taken] = INFINITY;
    as_long.push_back(distance.argmin().item<int64_t>());
  }
  for (const auto& set : {six, indices(std::get<1>(last.unigram.topk(6))), shuffled, as_long}) {
    auto& row = out.rows.emplace_back(6);
    for (const auto n : set) {
      const auto& e = last.effects[static_cast<size_t>(n)];
      const double all[] = {last.length[n].item<double>(),
                            last.null_share[n].item<double>(),
                            e.total,
                            e.direct,
                            e.norm_share(),
                            e.unigram_share()};
      for (size_t k = 0; k < 6; ++k) row[k] += all[k] / static_cast<double>(set.size());
    }
  }
  const double random = out.rows[2][4];
  double square = 0, best = 0;
  for (const auto n : shuffled) square += std::pow(last.effects[n].norm_share() - random, 2) / 100;
  const auto percent = std::max<int64_t>(1, m / 100);
  for (int64_t k = 0; k < percent; ++k)
    best += last.effects[out.by_rho[k]].norm_share() / static_cast<double>(percent);
  out.sigmas = (best - random) / std::sqrt(square);
  return out;
}

struct Repetition {
  std::vector<double> curve;               // entropy by position
  double drop = 0, random_drop = 0;        // of the repeated half; the same of random tokens
  std::vector<std::vector<double>> rows;   // change of entropy, sequences where it falls, p
  std::vector<std::vector<double>> heads;  // layer, head, change of the neurons' activation
};
CAJAL_OPTIONS(Repetition, curve, drop, random_drop, rows, heads)

Repetition repetition(study::Lab& lab, study::Subject& s, std::vector<int64_t> neurons) {
  const int64_t half = lab.by_scale(20, 100, 100), count = lab.by_scale(4, 24, 200);
  const int64_t begins = s.config().begin_id >= 0, from = begins + half;
  neurons.resize(6);
  Repetition out;
  const auto ids = atlas::repeated_text(s.config(), s.valid, half, count);
  const auto base = atlas::entropies(s.model, ids);
  const auto drop = [&](const torch::Tensor& e) {
    return (e.slice(1, begins, from).mean() - e.slice(1, from).mean()).item<double>();
  };
  out.drop = drop(base);
  std::vector<int32_t> any;
  auto random = lab.random(3);
  while (std::ssize(any) < half * count)
    any.push_back(static_cast<int32_t>(random.below(static_cast<uint64_t>(s.config().vocabulary))));
  out.random_drop =
      drop(atlas::entropies(s.model, atlas::repeated_text(s.config(), any, half, count)));
  const auto curve = base.slice(1, begins).mean(0);
  for (int64_t t = 0; t < curve.size(0); t += 5)
    out.curve.push_back(curve.slice(0, t, t + 5).mean().item<double>());
  for (int k = 0; k < 6; ++k) {  // the entropy neurons, then five random sets
    auto held = neurons;
    const auto order = torch::randperm(s.config().neurons, torch::kLong);
    if (k > 0) held.assign(order.data_ptr<int64_t>(), order.data_ptr<int64_t>() + 6);
    const auto change = (atlas::entropies(s.model, ids, held, from) - base).slice(1, from).mean(1);
    const auto falls = (change < 0).sum().item<int64_t>();
    out.rows.push_back({change.mean().item<double>(), static_cast<double>(falls),
                        math::sign_test(falls, change.size(0))});
  }
  const auto heads = atlas::heads_behind(s.model, ids, neurons, from);
  const auto order = std::get<1>(heads.abs().flatten().topk(std::min<int64_t>(5, heads.numel())));
  for (int64_t k = 0; k < order.size(0); ++k) {
    const auto at = order[k].item<int64_t>(), layer = at / heads.size(1), head = at % heads.size(1);
    out.heads.push_back(
        {static_cast<double>(layer), static_cast<double>(head), heads[layer][head].item<double>()});
  }
  return out;
}

/// Claim 5: repeated text, entropy neurons held down in its second half.
void induction(study::Lab& lab, study::Subject& s, const std::vector<int64_t>& neurons) {
  const auto found =
      lab.part("repeated text, " + s.name, [&] { return repetition(lab, s, neurons); });
  plot::Series series{.name = s.name, .x = {}, .y = found.curve};
  for (size_t k = 0; k < found.curve.size(); ++k) series.x.push_back(5.0 * static_cast<double>(k));
  lab.plot(plot::Lines{.title = "Entropy on repeated text: " + s.name,
                       .x = {"position"},
                       .y = {"entropy, nats"},
                       .series = {series}});
  lab.claim(s.name + ": entropy falls in the repeated half by, nats")
      .paper("")
      .measured(found.drop)
      .at_least(0.5);
  lab.note(fmt::format("{}: on repeated random tokens it falls by {:.2f} nats", s.name,
                       found.random_drop));
  auto table = lab.table("neurons held down in the repeated half: " + s.name,
                         {"set", "change of entropy", "sequences where it falls", "sign test p"});
  for (size_t k = 0; k < found.rows.size(); ++k)
    table.row(k == 0 ? "top 6 by null share" : fmt::format("random set {}", k - 1),
              found.rows[k][0], found.rows[k][1], found.rows[k][2]);
  auto heads = lab.table("heads behind those neurons, looking at the first token only: " + s.name,
                         {"layer", "head", "change of the mean activation"});
  for (const auto& h : found.heads) heads.row(h[0], h[1], h[2]);
}

/// Setting, test nats and test calibration error of the model as it is, with the dial and with a
/// temperature, then the nats that the dial won where it was tuned.
std::vector<std::vector<double>> tuned(study::Lab& lab, study::Subject& s,
                                       const std::vector<int64_t>& neurons) {
  const torch::NoGradGuard no_grad;
  const auto context = std::min<int64_t>(256, s.config().context);
  const auto tokens = lab.by_scale<int64_t>(64, 1500, 8000);
  const auto text = std::span<const int32_t>(s.valid);
  const atlas::ConfidenceDial tune(s.model, text.first(text.size() / 2), context, tokens, neurons),
      test(s.model, text.subspan(text.size() / 2), context, tokens, neurons);
  const double before = tune.score(1, 1).nats;
  double best = 1, best_t = 1, nats = before, nats_t = before;
  for (double g = 0; g <= 3; g += 0.25)
    if (const double x = tune.score(g, 1).nats; x < nats) nats = x, best = g;
  for (double t = 0.8; t <= 1.3; t += 0.05)
    if (const double x = tune.score(1, t).nats; x < nats_t) nats_t = x, best_t = t;
  const auto plain = test.score(1, 1), dial = test.score(best, 1), warm = test.score(1, best_t);
  return {{1, plain.nats, plain.error},
          {best, dial.nats, dial.error},
          {best_t, warm.nats, warm.error},
          {before - nats, before - nats_t}};
}

/// Claim 6: one dial for confidence, beside temperature.
void dial(study::Lab& lab, study::Subject& s, const std::vector<int64_t>& neurons) {
  const auto found = lab.part("dial, " + s.name, [&] { return tuned(lab, s, neurons); });
  lab.claim(s.name + ": nats won by the dial on the text it was tuned on")
      .paper("")
      .measured(found[3][0])
      .at_least(0);
  lab.note(fmt::format("{}: temperature wins {:.4f} nats there, the dial {:.4f}", s.name,
                       found[3][1], found[3][0]));
  auto table =
      lab.table("the dial: " + s.name, {"what", "setting", "test nats", "test calibration error"});
  const char* names[] = {"as it is", "dial", "temperature"};
  for (size_t k = 0; k < 3; ++k) table.row(names[k], found[k][0], found[k][1], found[k][2]);
}

void run(study::Lab& lab) {
  planted(lab);
  exactness(lab);
  auto table = lab.table(
      "last layer of trained models",
      {"model", "neurons", "|w|", "null share", "total", "direct", "norm share", "unigram share"});
  std::vector<double> spearman, sigmas;
  const auto judge = [&](const std::string& name, const OnModel& found) {
    for (size_t k = 0; k < found.rows.size(); ++k) add(table, name, sets[k], found.rows[k]);
    return found;
  };
  for (const auto seed : lab.seeds()) {
    if (lab.smoke()) break;
    const auto folder = study::trained_seed(lab, seed);
    if (!folder) break;
    const auto found = judge(fmt::format("seed {}", seed), lab.part("trained", seed, [&] {
      return on_model(lm::load(*folder),
                      atlas::read_text(*folder, 2048, "classics/test", 20'000).ids, 1500);
    }));
    spearman.push_back(found.spearman), sigmas.push_back(found.sigmas);
  }
  for (const char* name : {"opt-classics", "llama-classics"})
    if (auto s = study::find_subject(lab, name)) {
      const auto found = judge(s->name, lab.part(s->name, [&] {
        return on_model(s->model, s->valid, lab.by_scale(32, 600, 4000));
      }));
      lab.note(fmt::format("{}: Spearman {:.3f}, top percent {:.2f} sigma", s->name, found.spearman,
                           found.sigmas));
      if (lab.smoke()) spearman.push_back(found.spearman), sigmas.push_back(found.sigmas);
      induction(lab, *s, found.by_rho);
      dial(lab, *s, found.by_rho);
    }
  if (!spearman.empty()) {
    lab.claim("trained: Spearman of null share and norm share")
        .paper("scatter")
        .measured(spearman)
        .at_least(0.3);
    lab.claim("trained: top percent by null share above random, sigma")
        .paper("")
        .measured(sigmas)
        .at_least(2);
  }
  lab.not_shown("models up to 7B and the sharp tail of gpt2's singular values",
                "no such weights here; cajal atlas build finds entropy neurons of yours");
}

const auto registered = study::add({.slug = "confidence-neurons"}, run);
}  // namespace
