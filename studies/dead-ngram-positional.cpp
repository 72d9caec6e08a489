#include <fstream>
#include <map>

#include "cajal/atlas/confidence.h"
#include "cajal/atlas/measure.h"
#include "cajal/atlas/planted_neurons.h"
#include "cajal/atlas/report.h"
#include "cajal/core/timing.h"
#include "cajal/models/lm/checkpoint.h"
#include "cajal/study/subject.h"
#include "cajal/study/trained_seed.h"

namespace {
using namespace cajal;
using atlas::Census;
using atlas::PlantedKind;
using atlas::PositionKind;

atlas::MeasureOptions full(int orders = 1) { return {.tables = true, .orders = orders}; }

/// The kind that the census gives a neuron, in the words of the planted model.
PlantedKind found_kind(const Census& census, int64_t l, int64_t i,
                       const atlas::GramTotals& totals) {
  const auto& layer = census.layers[l];
  if (layer.dead(i)) return PlantedKind::dead;
  const auto position = atlas::find_positional(census, l, i).kind;
  if (position == PositionKind::range) return PlantedKind::range;
  if (position == PositionKind::oscillatory) return PlantedKind::oscillatory;
  const auto triggers = atlas::find_triggers(census, l, i, {}, &totals);
  if (!triggers.pure) return PlantedKind::background;
  return triggers.order == 1 ? PlantedKind::token : PlantedKind::bigram;
}

/// Claim 1: what was planted is found.
void planted(study::Lab& lab) {
  const std::pair<PlantedKind, const char*> kinds[] = {{PlantedKind::dead, "dead"},
                                                       {PlantedKind::token, "token"},
                                                       {PlantedKind::bigram, "bigram"},
                                                       {PlantedKind::range, "range"},
                                                       {PlantedKind::oscillatory, "oscillatory"}};
  std::vector<std::vector<double>> precision(5), recall(5), there(5), seen(5);
  for (int seed = 0; seed < lab.by_scale(1, 5, 5); ++seed) {
    auto p = atlas::plant_neurons({.layers = lab.by_scale(1, 4, 4),
                                   .neurons = lab.by_scale(512, 1024, 2048),
                                   .vocabulary = lab.by_scale(1024, 4096, 4096),
                                   .context = lab.by_scale(128, 256, 256),
                                   .tokens = lab.by_scale(20'000, 150'000, 4'000'000),
                                   .seed = static_cast<uint64_t>(seed)});
    const auto census = atlas::measure(p.model, p.text, full(2));
    const atlas::GramTotals totals(census, p.text);
    std::map<PlantedKind, std::array<double, 3>> count;  // planted, found, both
    for (int64_t l = 0; l < std::ssize(p.kind); ++l)
      for (int64_t i = 0; i < std::ssize(p.kind[l]); ++i) {
        const auto truth = p.kind[l][i], found = found_kind(census, l, i, totals);
        ++count[truth][0], ++count[found][1], count[truth][2] += truth == found;
      }
    for (size_t k = 0; k < 5; ++k) {
      const auto [of, as, both] = count[kinds[k].first];
      there[k].push_back(of), seen[k].push_back(as);
      precision[k].push_back(as > 0 ? both / as : 0), recall[k].push_back(both / of);
    }
  }
  auto table = lab.table("planted neurons", {"class", "planted", "found", "precision", "recall"});
  for (size_t k = 0; k < 5; ++k) {
    table.row(kinds[k].second, study::Figure(there[k]), study::Figure(seen[k]),
              study::Figure(precision[k]), study::Figure(recall[k]));
    auto worst = precision[k];
    for (size_t s = 0; s < worst.size(); ++s) worst[s] = std::min(worst[s], recall[k][s]);
    lab.claim(fmt::format("planted {} neurons: the lower of precision and recall", kinds[k].second))
        .paper("")
        .measured(worst)
        .at_least(k == 0 ? 1.0 : 0.98);
  }
}

/// Claim 2: every way of counting gives the same bits.
void exactness(study::Lab& lab, study::Subject& s) {
  const auto text =
      std::span(s.calibration)
          .first(std::min<size_t>(s.calibration.size(), lab.by_scale(1024, 16'384, 50'000)));
  auto options = full(2);
  options.batch = 2;
  const auto whole = atlas::measure(s.model, text, options);
  auto walking = options;
  walking.by_layer = true;
  lab.claim("layer at a time and full forward pass give the same bits")
      .paper("")
      .holds(atlas::measure(s.model, text, walking) == whole);
  Census merged;
  auto shard = options;
  shard.shards = std::min<int64_t>(4, whole.units);
  for (shard.shard = 1; shard.shard <= shard.shards; ++shard.shard) {
    auto part = atlas::measure(s.model, text, shard);
    merged = shard.shard == 1 ? part : atlas::merge(std::move(merged), part, "a", "b");
  }
  lab.claim("4 merged shards give the bits of one process").paper("").holds(merged == whole);

  // The naive form keeps every activation.
  std::vector<torch::Tensor> all;
  atlas::each_activation(s.model, text, whole.context, options.batch,
                         [&](int64_t, const torch::Tensor& a) { all.push_back(a > 0); });
  const auto fired = torch::cat(all);
  bool same = true;
  int64_t at = 0;
  for (const auto& layer : whole.layers)
    for (int64_t i = 0; i < layer.neurons; ++i, ++at) {
      const auto column = fired.select(1, at);
      same = same && column.sum().item<int64_t>() == layer.positive[i];
      if (i % 101 != 0) continue;  // whole rows of a sample of neurons
      std::map<int64_t, int64_t> tokens;
      const auto bits = column.contiguous();
      for (size_t t = 0; t < text.size(); ++t) tokens[text[t]] += bits.data_ptr<bool>()[t];
      for (const auto& [token, count] : layer.tables.tokens.of(i))
        same = same && tokens[token] == count;
    }
  lab.claim("counts equal those from stored activations").paper("").holds(same);
}

double resident_mb() {
  std::ifstream status("/proc/self/statm");
  double size = 0, resident = 0;
  status >> size >> resident;
  return resident * 4096 / 1e6;
}

/// Claim 3: what it costs.
void cost(study::Lab& lab, study::Subject& s) {
  const auto text =
      std::span(s.calibration)
          .first(std::min<size_t>(s.calibration.size(), lab.by_scale(512, 16'384, 65'536)));
  const auto context = std::min<int64_t>(512, s.config().context);
  const auto times = time_interleaved(
      {[&] {
         const torch::NoGradGuard no_grad;
         const std::vector<int32_t> ids(text.begin(), text.end());
         for (int64_t at = 0; at + context <= std::ssize(ids); at += 8 * context) {
           const auto count = std::min<int64_t>(8, (std::ssize(ids) - at) / context);
           s.model->forward(torch::from_blob(const_cast<int32_t*>(ids.data() + at),
                                             {count, context}, torch::kInt)
                                .to(torch::kLong));
         }
       },
       [&] { atlas::measure(s.model, text, full()); }},
      lab.by_scale(1, 3, 5));
  lab.claim("time of the census over the plain forward pass")
      .paper("")
      .measured(times.ratio(1, 0))
      .at_most(1.5);
  const int64_t m = lab.by_scale(64, 3072, 3072), v = lab.by_scale(500, 50'000, 50'000);
  const double before = resident_mb();
  atlas::LayerTables tables({.shapes = true, .positions = 2048, .vocabulary = v}, m);
  tables.unpack();
  const double taken = resident_mb() - before;
  lab.claim("MB of counters of a layer with m 3072, P 2048, V 50k")
      .paper("")
      .measured(taken)
      .at_most(1000);
}

/// Claims 4 and 5 on small trained models.
struct Trained {
  double beyond_null = 0, shuffled_positions = 0, positional = 0, logits = 0, parameters = 0;
};

/// The model without its dead neurons; returns the share of FFN parameters that went.
double prune(lm::Transformer& model, const Census& census) {
  double gone = 0, all = 0;
  for (size_t l = 0; l < model->blocks.size(); ++l) {
    std::vector<int64_t> alive;
    const auto& layer = census.layers[l];
    for (int64_t i = 0; i < layer.neurons; ++i)
      if (!layer.dead(i)) alive.push_back(i);
    auto& group = model->blocks[l].ffn.groups[0];
    const auto rows = torch::tensor(alive, torch::kLong);
    group.key = Matrix::dense(group.key.stored().index_select(0, rows));
    if (group.key_bias.defined()) group.key_bias = group.key_bias.index_select(0, rows);
    group.value = Matrix::dense(group.value.stored().index_select(1, rows).contiguous());
    gone += static_cast<double>(layer.dead_count()), all += static_cast<double>(layer.neurons);
  }
  return gone / all;
}

int64_t positional(const Census& census) {
  int64_t count = 0;
  for (int64_t l = 0; l < std::ssize(census.layers); ++l)
    for (int64_t i = 0; i < census.layers[l].neurons; ++i)
      count +=
          atlas::find_positional(census, l, i, {.skip_first = true}).kind != PositionKind::none;
  return count;
}

Trained trained(study::TableWriter& table, const std::string& name, lm::Transformer model,
                const std::vector<int32_t>& text) {
  const torch::NoGradGuard no_grad;
  auto options = full(2);
  const auto census = atlas::measure(model, text, options);
  const auto findings = atlas::describe(census, model, nullptr);
  Trained out;
  int64_t most = -1;
  for (int64_t l = 0; l < std::ssize(findings.layers); ++l) {
    const auto& f = findings.layers[l];
    const auto& layer = census.layers[l];
    table.row(name, std::to_string(l), 100.0 * layer.dead_count() / layer.neurons,
              3.0 / census.tokens(), layer.positive_share(), f.detectors, f.pure, f.tokens_covered,
              f.tokens_new, 100 * f.suppressed, 100 * f.shuffled, f.range, f.oscillatory, f.weak);
    if (f.detectors > most) most = f.detectors, out.beyond_null = f.suppressed - f.shuffled;
  }
  out.positional = static_cast<double>(positional(census));
  options.hooks.add("hook_pos_embed", [](std::string_view, const torch::Tensor& rows) {
    auto shuffled = torch::empty_like(rows);
    for (int64_t b = 0; b < rows.size(0); ++b)
      shuffled[b].copy_(rows[b].index_select(0, torch::randperm(rows.size(1), torch::kLong)));
    return shuffled;
  });
  out.shuffled_positions = static_cast<double>(positional(atlas::measure(model, text, options)));

  const auto ids =
      torch::tensor(std::vector<int64_t>(text.begin(), text.begin() + 128)).unsqueeze(0);
  const auto before = model->forward(ids);
  out.parameters = prune(model, census);
  out.logits = (model->forward(ids) - before).abs().max().item<double>();
  return out;
}

void on_trained(study::Lab& lab) {
  auto table =
      lab.table("trained models", {"model", "layer", "dead %", "bound 3/T", "mean rate",
                                   "token det.", "pure", "tokens covered", "new",
                                   "triggers lowered %", "shuffled %", "range", "osc.", "weak"});
  std::vector<double> beyond, left, logits, share, positions;
  const auto add = [&](const Trained& t) {
    beyond.push_back(100 * t.beyond_null), logits.push_back(t.logits),
        share.push_back(t.parameters);
    if (t.positional > 0) left.push_back(t.shuffled_positions / t.positional);
    positions.push_back(t.positional);
  };
  if (lab.smoke()) {
    const auto p = atlas::plant_neurons(
        {.layers = 1, .neurons = 256, .vocabulary = 512, .context = 128, .tokens = 8000});
    add(trained(table, "planted", p.model, p.text));
  } else {
    for (const auto seed : lab.seeds()) {
      const auto folder = study::trained_seed(lab, seed);
      if (!folder) return;
      auto model = lm::load(*folder);
      const auto text = atlas::read_text(*folder, 2048, "classics/train",
                                         lab.by_scale<int64_t>(0, 100'000, 1'000'000));
      add(trained(table, fmt::format("seed {}", seed), model, text.ids));
    }
  }
  lab.claim(
         "points by which own triggers are lowered more often than shuffled ones, in the layer "
         "with most detectors")
      .paper("about 80 % are lowered")
      .measured(beyond)
      .at_least(15);
  lab.note(fmt::format("positional neurons a model: {}", study::text(study::Figure(positions))));
  if (left.empty())
    lab.not_shown("positional neurons vanish when positions are shuffled",
                  "none of these models has any");
  else
    lab.claim("share of the positional neurons left when position ids are shuffled")
        .paper("")
        .measured(left)
        .in_percent()
        .at_most(0.05);
  lab.claim("largest change of a logit when dead neurons are pruned")
      .paper("")
      .measured(logits)
      .at_most(1e-6);
  lab.note(fmt::format("share of the neurons that pruning took: {}",
                       study::text(study::Figure(share), true)));
}

void run(study::Lab& lab) {
  planted(lab);
  if (auto subject = study::find_subject(lab, "opt-classics")) {
    exactness(lab, *subject);
    cost(lab, *subject);
    auto table =
        lab.table("opt-classics", {"model", "layer", "dead %", "bound 3/T", "mean rate",
                                   "token det.", "pure", "tokens covered", "new",
                                   "triggers lowered %", "shuffled %", "range", "osc.", "weak"});
    if (!lab.smoke()) trained(table, subject->name, subject->model, subject->calibration);
  }
  on_trained(lab);
  lab.not_shown("more than 70 % dead neurons and the trend to OPT-66b",
                "no such weights here; cajal atlas build MODEL --by-layer prints it for yours");
}

const auto registered = study::add({.slug = "dead-ngram-positional"}, run);
}  // namespace
