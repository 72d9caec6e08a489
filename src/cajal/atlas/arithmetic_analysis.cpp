#include "cajal/atlas/arithmetic_analysis.h"

#include <algorithm>
#include <set>

#include "cajal/atlas/probe.h"
#include "cajal/math/ranks.h"

namespace cajal::atlas {
namespace {

using torch::Tensor;

std::vector<int64_t> list(const Tensor& t) {
  const auto c = t.to(torch::kLong).contiguous();
  return {c.data_ptr<int64_t>(), c.data_ptr<int64_t>() + c.numel()};
}
Tensor tensor(const std::vector<int64_t>& v) { return torch::tensor(v, torch::kLong); }
std::span<const float> row(const Tensor& t, int64_t i) {
  return {t.data_ptr<float>() + i * t.size(1), static_cast<size_t>(t.size(1))};
}
Tensor permuted(const Tensor& maps) {
  return maps.index_select(1, torch::randperm(maps.size(1))).contiguous();
}
Tensor shuffled(const Tensor& pairs) {
  return pairs.index_select(0, torch::randperm(pairs.size(0)));
}
std::string post(int64_t layer) { return fmt::format("blocks.{}.mlp.hook_post", layer); }
std::string family(const HeuristicMatch& m) {
  return fmt::format("{} {}", to_name(m.heuristic.of), to_name(m.heuristic.family));
}
double share(int64_t part, int64_t whole) {
  return static_cast<double>(part) / static_cast<double>(std::max<int64_t>(1, whole));
}

}  // namespace

ArithmeticAnalysis::ArithmeticAnalysis(const AnalysisOptions& options, uint64_t seed)
    : options_(options), task_(arithmetic_task(options.task, seed)) {
  require(options.task.layers >= 2, "arithmetic analysis: {} layers, expected 2 or more",
          options.task.layers);
  model_ = train_arithmetic(options_.task, task_, seed, [&](int64_t step, lm::Transformer& model) {
    if (!snapshots_.empty() && snapshots_.back().first == step) return;
    std::vector<Tensor> copy;
    for (const auto& p : model->parameters()) copy.push_back(p.detach().clone());
    snapshots_.emplace_back(step, std::move(copy));
  });
  accuracy_ = share(right_pairs(model_, task_, task_.held_out).size(0), task_.held_out.size(0));
  right_ = right_pairs(model_, task_, torch::arange(task_.grid.size()));
  scorer_.emplace(task_.grid);
  const torch::NoGradGuard no_grad;
  means_ = means(record(model_, task_.ids, circuit_points()).values);
  // Prompts with operands above 5 and results above 2, each with another answer.
  std::set<int64_t> answers;
  std::vector<int64_t> prompts;
  for (const auto p : list(right_)) {
    const auto i = static_cast<size_t>(p);
    if (std::ssize(prompts) < options_.prompts && task_.grid.x[i] > 5 && task_.grid.y[i] > 5 &&
        task_.grid.result[i] > 2 && answers.insert(task_.grid.result[i]).second)
      prompts.push_back(p);
  }
  if (prompts.empty()) prompts = {0, 1, 2};
  const auto pairs = tensor(prompts), others = counterfactuals(task_, pairs, seed);
  ids_ = task_.ids.index_select(0, pairs), answers_ = task_.answers.index_select(0, pairs);
  source_ = task_.ids.index_select(0, others);
  source_answers_ = task_.answers.index_select(0, others);
}

Metric ArithmeticAnalysis::effect(int64_t copies) {
  const torch::NoGradGuard no_grad;
  return indirect_effect(model_->forward(ids_).repeat({copies, 1, 1}), answers_.repeat({copies}),
                         source_answers_.repeat({copies}));
}

double ArithmeticAnalysis::accuracy_of(const Tensor& pairs, lm::Hooks* hooks) {
  return answer_accuracy(model_, task_.ids.index_select(0, pairs),
                         task_.answers.index_select(0, pairs), hooks);
}

void ArithmeticAnalysis::compare_patching(const Recording& scores, Patching& out) {
  const auto metric = effect(1);
  std::vector<double> exact, estimate;
  for (int64_t l = 0; l < options_.task.layers; ++l) {
    const auto point = post(l);
    const auto score = scores.at(point).select(1, -1).abs().mean(0);  // [neurons]
    ranking_.push_back(score.argsort(-1, true));
    const auto from = record(model_, source_, {point}).values.begin()->second;
    // The dead ones have no effect either way: the ranking is judged on the stronger half.
    const auto units = list(ranking_.back().slice(0, 0, options_.task.neurons / 2));
    const auto each = patch_each(model_, ids_, from, point, units, -1,
                                 [&](int64_t copies) { return effect(copies); });
    for (size_t k = 0; k < units.size(); ++k) {
      const auto patched = each[static_cast<int64_t>(k)];
      exact.push_back(patched.abs().mean().item<double>());
      estimate.push_back(score[units[k]].item<double>());
      if (k % 64) continue;  // a naive loop: one neuron, one pass
      lm::Hooks hooks;
      hooks.add(point, [&](std::string_view, const Tensor& value) {
        auto changed = value.clone();
        changed.select(1, -1).select(1, units[k]).copy_(from.select(1, -1).select(1, units[k]));
        return changed;
      });
      const auto alone = metric(model_->forward(ids_, {.hooks = &hooks}));
      out.error =
          std::max(out.error,
                   ((alone - patched).abs().max() / alone.abs().max().clamp_min(1)).item<double>());
    }
  }
  out.rank_correlation = math::spearman(exact, estimate);
}

double ArithmeticAnalysis::kept_faithfulness(double kept_share, bool top) {
  auto circuit = whole_circuit(model_->config);
  const auto neurons = options_.task.neurons;
  const auto kept = static_cast<int64_t>(kept_share * static_cast<double>(neurons));
  for (int64_t l = first_layer(); l < options_.task.layers; ++l) {
    const auto order = top ? ranking_[static_cast<size_t>(l)] : torch::randperm(neurons);
    circuit.neurons[static_cast<size_t>(l)].zero_().index_fill_(0, order.slice(0, 0, kept), true);
  }
  return faithfulness(model_, ids_, answers_, circuit, means_);
}

ArithmeticAnalysis::Patching ArithmeticAnalysis::patching(const std::vector<double>& shares) {
  const auto metric = effect(1);
  const auto scores =
      attribution_patching(model_, ids_, source_, {"blocks.*.mlp.hook_post"}, metric);
  const torch::NoGradGuard no_grad;
  Patching out;
  out.effects = patching_effects(model_, ids_, source_, metric);
  compare_patching(scores, out);
  const auto heads = grow_heads(model_, ids_, answers_, means_, out.effects, 0.9);
  out.heads = std::ssize(heads.heads), out.heads_faithfulness = heads.faithfulness.back();
  for (const double s : shares)
    out.kept.push_back({s, kept_faithfulness(s, true), kept_faithfulness(s, false)});
  return out;
}

ArithmeticAnalysis::Rules ArithmeticAnalysis::rules() {
  require(!ranking_.empty(), "arithmetic analysis: patching comes before rules");
  const auto kept = std::max<int64_t>(
      1, static_cast<int64_t>(options_.kept * static_cast<double>(options_.task.neurons)));
  Rules out;
  for (int64_t l = first_layer(); l < options_.task.layers; ++l) {
    const auto top = ranking_[static_cast<size_t>(l)].slice(0, 0, kept);
    const auto maps = activation_maps(model_, task_, l, top);
    const auto other = permuted(maps.activations), other_effects = permuted(maps.effects);
    for (int64_t k = 0; k < kept; ++k, ++out.neurons) {
      Neuron neuron{l, top[k].item<int64_t>(),
                    scorer_->hybrid_matches(row(maps.activations, k), row(maps.effects, k), false)};
      out.matched += !neuron.rules.empty();
      std::set<std::string> seen;
      for (const auto& m : neuron.rules)
        if (seen.insert(family(m)).second) {
          auto& f = out.families[family(m)];
          ++f.neurons, f.score += m.score;
        }
      const auto none = scorer_->hybrid_matches(row(other, k), row(other_effects, k), false);
      out.permuted += !none.empty();
      for (const auto& m : none) ++out.families[family(m)].permuted;
      neurons_.push_back(std::move(neuron));
    }
  }
  for (auto& [name, f] : out.families)
    if (f.neurons > 0) f.score /= static_cast<double>(f.neurons);
  return out;
}

double ArithmeticAnalysis::KnockOut::best_ratio() const {
  double best = 0;
  for (const auto& r : rows)
    if (r.most > 0) best = std::max(best, (1 - r.targeted) / std::max(0.005, 1 - r.random));
  return best;
}

ArithmeticAnalysis::KnockOut ArithmeticAnalysis::knock_out() {
  std::map<std::string, std::vector<const Neuron*>> classes;
  std::map<std::string, Heuristic> rule;
  for (const auto& neuron : neurons_)
    for (const auto& m : neuron.rules)
      classes[m.heuristic.name()].push_back(&neuron), rule[m.heuristic.name()] = m.heuristic;
  KnockOut out;
  for (const auto& [name, members] : classes) {
    if (std::ssize(members) < options_.class_size) continue;
    std::vector<int64_t> related, unrelated;
    for (const auto p : list(shuffled(right_))) {
      const auto i = static_cast<size_t>(p);
      auto& side = rule.at(name).holds(task_.grid.x[i], task_.grid.y[i], task_.grid.result[i])
                       ? related
                       : unrelated;
      if (std::ssize(side) < options_.class_prompts) side.push_back(p);
    }
    unrelated.resize(std::min(unrelated.size(), related.size()));
    if (unrelated.empty()) continue;
    lm::Hooks hooks;
    for (const auto* n : members)
      ablate(hooks, {post(n->layer), {}, {}, {n->neuron}}, Ablate::zero);
    out.related += 1 - accuracy_of(tensor(related), &hooks);
    out.unrelated += 1 - accuracy_of(tensor(unrelated), &hooks);
    ++out.classes;
  }
  const auto n = static_cast<double>(std::max<int64_t>(1, out.classes));
  out.related /= n, out.unrelated /= n;
  const auto sample = shuffled(right_).slice(0, 0, options_.sample);
  for (const int64_t most : {0, 2, 5, 10, 20})
    out.rows.push_back(
        {most, accuracy_without(sample, most, true), accuracy_without(sample, most, false)});
  return out;
}

// For every prompt and layer without the `most` neurons whose rules hold for it most often, or
// without as many others of the top ones.
double ArithmeticAnalysis::accuracy_without(const Tensor& pairs, int64_t most, bool targeted) {
  lm::Hooks hooks;
  for (int64_t l = first_layer(); l < options_.task.layers; ++l) {
    auto mask = torch::zeros({pairs.size(0), 1, options_.task.neurons}, torch::kBool);
    for (int64_t b = 0; b < pairs.size(0); ++b) {
      const auto i = static_cast<size_t>(pairs[b].item<int64_t>());
      std::vector<std::pair<int64_t, int64_t>> ranked;  // rules that apply, neuron
      std::vector<int64_t> any;
      for (const auto& n : neurons_) {
        if (n.layer != l) continue;
        any.push_back(n.neuron);
        int64_t count = 0;
        for (const auto& m : n.rules)
          count += m.heuristic.holds(task_.grid.x[i], task_.grid.y[i], task_.grid.result[i]);
        if (count) ranked.emplace_back(-count, n.neuron);
      }
      std::sort(ranked.begin(), ranked.end());
      const auto count = std::min<size_t>(static_cast<size_t>(most), ranked.size());
      const auto order = list(torch::randperm(std::ssize(any)));
      for (size_t k = 0; k < count; ++k)
        mask[b][0][targeted ? ranked[k].second : any[static_cast<size_t>(order[k])]] = true;
    }
    patch(hooks, post(l), mask, torch::zeros({1}));
  }
  return accuracy_of(pairs, &hooks);
}

std::vector<ArithmeticAnalysis::Stage> ArithmeticAnalysis::emergence() {
  const auto name = [](const Neuron& n, const HeuristicMatch& m) {
    return fmt::format("{}.{}.{}", n.layer, n.neuron, m.heuristic.name());
  };
  std::set<std::string> final;
  for (const auto& n : neurons_)
    for (const auto& m : n.rules) final.insert(name(n, m));
  std::vector<Stage> out;
  const torch::NoGradGuard no_grad;
  for (const auto& [step, weights] : snapshots_) {
    size_t at = 0;
    for (auto& p : model_->parameters()) p.detach().copy_(weights[at++]);
    int64_t shared = 0;
    auto circuit = whole_circuit(model_->config);
    for (int64_t l = first_layer(); l < options_.task.layers; ++l)
      circuit.neurons[static_cast<size_t>(l)].zero_();
    for (const auto& n : neurons_) {
      const auto maps = activation_maps(model_, task_, n.layer, tensor({n.neuron}));
      bool any = false;
      for (const auto& m :
           scorer_->hybrid_matches(row(maps.activations, 0), row(maps.effects, 0), false)) {
        const bool same = final.count(name(n, m)) > 0;
        shared += same, any |= same;
      }
      if (any) circuit.neurons[static_cast<size_t>(n.layer)][n.neuron] = true;
    }
    const auto now = means(record(model_, task_.ids, circuit_points()).values);
    out.push_back(
        {step, share(right_pairs(model_, task_, task_.held_out).size(0), task_.held_out.size(0)),
         share(shared, std::ssize(final)), faithfulness(model_, ids_, answers_, circuit, now)});
  }
  return out;
}

std::vector<double> ArithmeticAnalysis::probes(int64_t examples, int iterations) {
  const torch::NoGradGuard no_grad;
  const auto some = task_.train.slice(0, 0, examples);
  std::vector<double> out;
  for (int64_t l = 0; l < options_.task.layers; ++l) {
    const auto point = fmt::format("blocks.{}.hook_resid_post", l);
    const auto x = record(model_, task_.ids, {point}).values.begin()->second.select(1, -1);
    const auto probe = fit_classes(x.index_select(0, some), task_.answers.index_select(0, some),
                                   task_.vocabulary, {.l2 = 1e-4, .iterations = iterations});
    out.push_back(probe.accuracy(x.index_select(0, task_.held_out),
                                 task_.answers.index_select(0, task_.held_out)));
  }
  return out;
}

}  // namespace cajal::atlas
