#include "cajal/surgery/subject_trials.h"

#include <algorithm>
#include <cmath>

#include "cajal/core/timing.h"

namespace cajal::surgery {
namespace {

using torch::Tensor;

Taught taught(SubjectBench& bench, const std::string& method, const Subject& subject, int which,
              uint64_t seed, const SubjectTrialOptions& o, double bytes, double seconds) {
  Taught out{method, bench.score(subject, which, seed), bytes, seconds, {}};
  if (o.kept == 0) return out;
  const auto some = bench.draw(bench.prompts(which), seed + 40).slice(0, 0, o.kept);
  const auto row = some.squeeze(1).permute({1, 0, 2}).flatten(1).contiguous();
  for (int64_t y = 0; y < row.size(0); ++y) {
    const auto* line = row.data_ptr<float>() + y * row.size(1);
    out.picture.emplace_back(line, line + row.size(1));
  }
  return out;
}

TuneOptions keys_and_values(const SubjectTrialOptions& o) {
  return {.part = TunedPart::keys_values, .steps = o.tune_steps, .rate = 2e-3};
}

}  // namespace

MaskedSubject try_masks(SubjectBench& bench, int which, uint64_t seed,
                        const SubjectTrialOptions& o) {
  const auto subject = bench.subject(which, seed);
  MaskedSubject out;
  out.methods.push_back(taught(bench, kBaseModel, subject, which, seed, o, 0, 0));
  const auto measure = [&](const std::string& name, const IndexLists& mask, double seconds) {
    shut(bench.weights(), mask);
    out.methods.push_back(taught(bench, name, subject, which, seed, o,
                                 static_cast<double>(encode(mask).size()), seconds));
    bench.restore();
  };
  const auto search = [&](ConceptOptions options) {
    torch::manual_seed(static_cast<int64_t>(seed) + 7);
    options.draws = o.draws;
    return find_concept_neurons(bench.model(), bench.schedule(), subject, options);
  };
  const Stopwatch watch;
  const auto by_gates = search({});
  out.mask = by_gates.shut;
  measure(kGateMask, out.mask, watch.seconds());
  for (size_t m = 0; m < by_gates.gates.size(); ++m)
    bench.weights()[m].detach().mul_(by_gates.gates[m]);
  out.methods.push_back(taught(bench, kSoftGates, subject, which, seed, o,
                               4 * static_cast<double>(bench.weight_count()), 0));
  bench.restore();
  const Stopwatch again;
  const auto at_once = search({.score = NeuronScore::one_shot}).shut;
  measure("one-shot t-statistic", at_once, again.seconds());
  const double share = static_cast<double>(std::max<int64_t>(1, out.mask.count())) /
                       static_cast<double>(bench.weight_count());
  for (const auto score : {NeuronScore::gradient, NeuronScore::magnitude})
    measure(to_name(score), search({.score = score, .share = share, .back_off = false}).shut, 0);
  torch::manual_seed(static_cast<int64_t>(seed) + 11);
  measure(kRandomMask, random_like(out.mask), 0);
  return out;
}

std::vector<Taught> try_tuning(SubjectBench& bench, int which, uint64_t seed,
                               const SubjectTrialOptions& o) {
  const auto subject = bench.subject(which, seed);
  std::vector<Taught> out;
  for (const auto& [name, part, rate] : {std::tuple(kFullTuning, TunedPart::everything, 5e-4),
                                         {kKeyValueTuning, TunedPart::keys_values, 2e-3},
                                         {"token embedding", TunedPart::token, 2e-2},
                                         {"LoRA of rank 4", TunedPart::low_rank, 2e-3}}) {
    auto options = keys_and_values(o);
    options.part = part, options.rate = rate, options.words = {bench.world().word_of(which)};
    torch::manual_seed(static_cast<int64_t>(seed) + 8);
    const Stopwatch watch;
    const auto bytes = tune(bench.model(), bench.schedule(), {subject}, options);
    out.push_back(
        taught(bench, name, subject, which, seed, o, static_cast<double>(bytes), watch.seconds()));
    bench.restore();
  }
  return out;
}

std::vector<GateDose> try_doses(SubjectBench& bench, const IndexLists& mask, int which,
                                uint64_t seed) {
  const auto subject = bench.subject(which, seed);
  std::vector<GateDose> out;
  for (const double gate : {1.0, 0.75, 0.5, 0.25, 0.0, -0.5}) {
    auto values = shut(bench.weights(), mask);
    for (auto& list : values)
      for (auto& v : list) v *= static_cast<float>(gate);
    restore(bench.weights(), mask, values);
    out.push_back({gate, bench.loss(subject, seed), bench.score(subject, which, seed).seen});
    bench.restore();
  }
  return out;
}

std::vector<MaskSize> try_sizes(SubjectBench& bench, int which, uint64_t seed,
                                const SubjectTrialOptions& o) {
  const auto subject = bench.subject(which, seed);
  std::vector<MaskSize> out;
  for (const double share : {0.005, 0.01, 0.02, 0.05, 0.1}) {
    torch::manual_seed(static_cast<int64_t>(seed) + 7);
    const auto mask = find_concept_neurons(bench.model(), bench.schedule(), subject,
                                           {.share = share, .draws = o.sweep_draws})
                          .shut;
    double keys = 0;
    for (size_t m = 0; m < mask.indices.size(); m += 2)
      keys += static_cast<double>(mask.indices[m].size());
    shut(bench.weights(), mask);
    const auto count = static_cast<double>(mask.count());
    out.push_back({count / static_cast<double>(bench.weight_count()), keys / std::max(1.0, count),
                   bench.score(subject, which, seed)});
    bench.restore();
  }
  return out;
}

BothSeen try_both(SubjectBench& bench, int first, int second, const std::vector<IndexLists>& masks,
                  uint64_t seed, const SubjectTrialOptions& o) {
  const auto seen = [&] {
    const double share = bench.both_seen(first, second, seed);
    bench.restore();
    return share;
  };
  const std::vector<Subject> subjects = {bench.subject(first, seed), bench.subject(second, seed)};
  const auto mask = unite(masks[static_cast<size_t>(first)], masks[static_cast<size_t>(second)]);
  BothSeen out;
  out.base = seen();
  shut(bench.weights(), mask);
  out.united = seen();
  torch::manual_seed(static_cast<int64_t>(seed) + 9);
  tune(bench.model(), bench.schedule(), subjects,
       {.part = TunedPart::masked, .steps = o.union_steps, .rate = 2e-2, .mask = mask});
  out.tuned = seen();
  std::vector<Tensor> sum;
  for (const auto& subject : subjects) {
    torch::manual_seed(static_cast<int64_t>(seed) + 8);
    tune(bench.model(), bench.schedule(), {subject}, keys_and_values(o));
    const auto tuned = snapshot(*bench.model());
    for (size_t i = 0; i < tuned.size(); ++i) {
      const auto change = tuned[i] - bench.original()[i];
      if (sum.size() <= i) sum.push_back(bench.original()[i].clone());
      sum[i] += change;
    }
    bench.restore();
  }
  restore(*bench.model(), sum);
  out.summed = seen();
  return out;
}

GateChecks check_gates(SubjectBench& bench) {
  auto& model = bench.model();
  const auto subject = bench.subject(0, 1);
  torch::manual_seed(5);
  auto draw = draw_noise(subject, bench.schedule(), 4);
  draw.pictures = draw.pictures.to(torch::kDouble), draw.noise = draw.noise.to(torch::kDouble);
  model->to(torch::kDouble);
  std::vector<Tensor> gates, way;
  for (const auto& w : bench.weights()) {
    gates.push_back((torch::rand_like(w) * 0.5 + 0.5).detach());
    way.push_back(torch::randn_like(w).detach());
  }
  const auto found = gate_gradients(model, bench.schedule(), draw, gates, 1);
  double along = 0, chain = 0;
  for (size_t m = 0; m < gates.size(); ++m) along += (found[m] * way[m]).sum().item<double>();
  const auto loss_at = [&](double step) {
    const auto kept = snapshot(*model);
    for (size_t m = 0; m < gates.size(); ++m)
      bench.weights()[m].detach().mul_(gates[m] + step * way[m]);
    const double loss = concept_loss(model, bench.schedule(), std::vector<NoiseDraw>{draw});
    restore(*model, kept);
    return loss;
  };
  const double measured = (loss_at(1e-4) - loss_at(-1e-4)) / 2e-4;
  for (size_t a = 0; a < model->attentions.size(); ++a) {
    auto& key = model->attentions[a]->key;
    const auto parameter = key;
    const auto k = torch::ones_like(parameter).detach().requires_grad_(true);
    key = k * parameter;
    const auto g = torch::autograd::grad({concept_loss(model, bench.schedule(), draw)}, {k});
    key = parameter;
    const auto own = gate_gradients(model, bench.schedule(), draw, {}, 1)[2 * a];
    chain = std::max(chain, (g[0] - own).abs().max().item<double>());
  }
  model->to(torch::kFloat);
  bench.restore();
  const auto mask = find_concept_neurons(model, bench.schedule(), subject,
                                         {.score = NeuronScore::random, .back_off = false})
                        .shut;
  const auto values = shut(bench.weights(), mask);
  restore(bench.weights(), mask, values);
  bool same = decode(encode(mask), "mask") == mask;
  const auto now = snapshot(*model);
  for (size_t i = 0; i < now.size(); ++i) same = same && torch::equal(now[i], bench.original()[i]);
  return {chain, std::abs(measured / along - 1), same};
}

}  // namespace cajal::surgery
