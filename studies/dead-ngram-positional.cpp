#include <fstream>
#include <map>

#include "cajal/atlas/measure.h"
#include "cajal/atlas/planted_neurons.h"
#include "cajal/atlas/report.h"
#include "cajal/core/timing.h"
#include "cajal/models/lm/checkpoint.h"
#include "cajal/models/lm/generate.h"
#include "cajal/study/subject.h"
#include "cajal/study/trained_seed.h"
#include "cajal/surgery/prune.h"

namespace {
using namespace cajal;
using atlas::Census;
using atlas::PlantedKind;
using atlas::PositionKind;

atlas::MeasureOptions full(int orders = 1) { return {.tables = true, .orders = orders}; }

/// Claim 1: what was planted is found.
void planted(study::Lab& lab) {
  const std::pair<PlantedKind, const char*> kinds[] = {{PlantedKind::dead, "dead"},
                                                       {PlantedKind::token, "token"},
                                                       {PlantedKind::bigram, "bigram"},
                                                       {PlantedKind::range, "range"},
                                                       {PlantedKind::oscillatory, "oscillatory"}};
  std::vector<std::vector<atlas::Recovery>> runs;
  for (uint64_t seed = 0; seed < lab.by_scale<uint64_t>(1, 5, 5); ++seed) {
    const auto counts = lab.part("planted", seed, [&] {
      auto p = atlas::plant_neurons({.layers = lab.by_scale(1, 4, 4),
                                     .neurons = lab.by_scale(512, 1024, 2048),
                                     .vocabulary = lab.by_scale(1024, 4096, 4096),
                                     .context = lab.by_scale(128, 256, 256),
                                     .tokens = lab.by_scale(20'000, 150'000, 4'000'000),
                                     .seed = seed});
      std::vector<std::vector<int64_t>> out;
      for (const auto& r : atlas::recover(p, atlas::measure(p.model, p.text, full(2))))
        out.push_back({r.planted, r.found, r.both});
      return out;
    });
    auto& run = runs.emplace_back();
    for (const auto& c : counts) run.push_back({c[0], c[1], c[2]});
  }
  auto table = lab.table("planted neurons", {"class", "planted", "found", "precision", "recall"});
  for (const auto& [kind, name] : kinds) {
    std::vector<double> planted, found, precision, recall, worst;
    for (const auto& run : runs) {
      const auto& r = run[static_cast<size_t>(kind)];
      planted.push_back(static_cast<double>(r.planted));
      found.push_back(static_cast<double>(r.found));
      precision.push_back(r.precision()), recall.push_back(r.recall());
      worst.push_back(std::min(r.precision(), r.recall()));
    }
    table.row(name, study::Figure(planted), study::Figure(found), study::Figure(precision),
              study::Figure(recall));
    lab.claim(fmt::format("planted {} neurons: the lower of precision and recall", name))
        .paper("")
        .measured(worst)
        .at_least(kind == PlantedKind::dead ? 1.0 : 0.98);
  }
}

/// Whether the counts are those of all activations, stored: totals of every neuron, whole token
/// tables of every hundredth.
bool equals_stored(study::Subject& s, std::span<const int32_t> text, const Census& census) {
  std::vector<torch::Tensor> all;
  atlas::each_activation(s.model, text, census.context, census.batch,
                         [&](int64_t, const torch::Tensor& a) { all.push_back(a > 0); });
  const auto fired = torch::cat(all);
  bool same = true;
  int64_t at = 0;
  for (const auto& layer : census.layers)
    for (int64_t i = 0; i < layer.neurons; ++i, ++at) {
      const auto column = fired.select(1, at).contiguous();
      same = same && column.sum().item<int64_t>() == layer.positive[i];
      if (i % 101 != 0) continue;
      std::map<int64_t, int64_t> tokens;
      for (size_t t = 0; t < text.size(); ++t) tokens[text[t]] += column.data_ptr<bool>()[t];
      for (const auto& [token, count] : layer.tables.tokens.of(i))
        same = same && tokens[token] == count;
    }
  return same;
}

/// Claim 2: every way of counting gives the same bits.
void exactness(study::Lab& lab, study::Subject& s) {
  const auto text =
      std::span(s.calibration)
          .first(std::min<size_t>(s.calibration.size(), lab.by_scale(1024, 16'384, 50'000)));
  const auto same = lab.part("exactness", [&] {
    auto options = full(2);
    options.batch = 2;
    const auto whole = atlas::measure(s.model, text, options);
    auto walking = options;
    walking.by_layer = true;
    const bool walked = atlas::measure(s.model, text, walking) == whole;
    Census merged;
    auto shard = options;
    shard.shards = std::min<int64_t>(4, whole.units);
    for (shard.shard = 1; shard.shard <= shard.shards; ++shard.shard) {
      auto part = atlas::measure(s.model, text, shard);
      merged = shard.shard == 1 ? part : atlas::merge(std::move(merged), part, "a", "b");
    }
    return std::vector<int>{walked, merged == whole, equals_stored(s, text, whole)};
  });
  lab.claim("layer at a time and full forward pass give the same bits").paper("").holds(same[0]);
  lab.claim("4 merged shards give the bits of one process").paper("").holds(same[1]);
  lab.claim("counts equal those from stored activations").paper("").holds(same[2]);
}

int64_t resident_bytes() {
  std::ifstream status("/proc/self/statm");
  int64_t pages = 0, resident = 0;
  status >> pages >> resident;
  return resident * 4096;
}

/// The most memory that a census takes beyond what was held before, in bytes, seen at every layer.
double memory_of(study::Subject& s, std::span<const int32_t> text, atlas::MeasureOptions options) {
  const auto before = resident_bytes();
  int64_t most = 0;
  options.hooks.add("*mlp.hook_post", [&](std::string_view, const torch::Tensor&) {
    most = std::max(most, resident_bytes() - before);
    return torch::Tensor();
  });
  atlas::measure(s.model, text, options);
  return static_cast<double>(most);
}

/// Claim 3: what it costs.
void cost(study::Lab& lab, study::Subject& s) {
  const auto text =
      std::span(s.calibration)
          .first(std::min<size_t>(s.calibration.size(), lab.by_scale(512, 16'384, 65'536)));
  const auto context = atlas::window_tokens(s.config(), std::min<int64_t>(512, s.config().context));
  lab.claim("time of the census over the plain forward pass")
      .paper("")
      .measured(lab.part(
          "time of the census",
          [&] {
            const torch::NoGradGuard no_grad;
            const auto plain = [&] {
              for (int64_t at = 0; at + context <= std::ssize(text); at += 8 * context)
                s.model->forward(atlas::windows(
                    s.config(),
                    text.subspan(at,
                                 std::min<int64_t>(8, (std::ssize(text) - at) / context) * context),
                    context));
            };
            return time_interleaved({plain, [&] { atlas::measure(s.model, text, full()); }},
                                    lab.by_scale(1, 3, 5))
                .ratio(1, 0);
          }))
      .at_most(1.5);

  // One layer's weights, the counters of one, and all that a pass without counters holds at once.
  const auto memory = lab.part("memory of the walker", [&] {
    auto walker = full(), whole = full();
    walker.by_layer = true;
    const double activations = memory_of(s, text, {.samples = 0});
    const auto& c = s.config();
    const auto layer = static_cast<double>(s.model->blocks[0].ffn.groups[0].key.stored_bytes()) *
                       (2 + 4.0 * static_cast<double>(c.width) / static_cast<double>(c.neurons));
    const auto counters = 4.0 * static_cast<double>(c.neurons * (c.vocabulary + context));
    return std::vector<double>{memory_of(s, text, walker), layer + activations + counters,
                               memory_of(s, text, whole)};
  });
  lab.claim("memory of the walker over that of one layer, its counters and a pass's activations")
      .paper("")
      .measured(memory[0] / std::max(1.0, memory[1]))
      .at_most(1);
  lab.note(fmt::format("the walker took {:.0f} MB, the census of all layers at once {:.0f} MB",
                       memory[0] / 1e6, memory[2] / 1e6));

  lab.claim("MB of counters of a layer with m 3072, P 2048, V 50k")
      .paper("")
      .measured(lab.part("memory of counters",
                         [&] {
                           const auto before = resident_bytes();
                           atlas::LayerTables tables(
                               {.shapes = true,
                                .positions = 2048,
                                .vocabulary = lab.by_scale(500, 50'000, 50'000)},
                               lab.by_scale(64, 3072, 3072));
                           tables.unpack();
                           return static_cast<double>(resident_bytes() - before) / 1e6;
                         }))
      .at_most(1000);
}

const std::vector<std::string> survey_columns = {
    "model",  "layer",          "dead %", "bound 3/T",          "mean rate",  "token det.", "pure",
    "bigram", "tokens covered", "new",    "triggers lowered %", "shuffled %", "range",      "osc.",
    "weak"};

struct Survey {
  std::vector<std::vector<double>> rows;  // a layer
  double beyond_null = 0, positional = 0;
};
CAJAL_OPTIONS(Survey, rows, beyond_null, positional)

Survey survey(lm::Transformer& model, std::span<const int32_t> text, const lm::Hooks& hooks = {}) {
  auto options = full(2);
  options.hooks = hooks;
  const auto census = atlas::measure(model, text, options);
  const atlas::Reading reading{.name = "", .ids = {text.begin(), text.end()}, .tokenizer = {}};
  atlas::DescribeOptions describe;
  describe.positions.skip_first = true, describe.ablation_tokens = 0, describe.words = 0;
  const auto findings = atlas::describe(census, model, &reading, describe);
  Survey out;
  int64_t most = -1;
  for (size_t l = 0; l < findings.layers.size(); ++l) {
    const auto& f = findings.layers[l];
    const auto& layer = census.layers[l];
    const auto number = [](int64_t x) { return static_cast<double>(x); };
    out.rows.push_back({100 * number(layer.dead_count()) / number(layer.neurons),
                        3 / number(census.tokens()), layer.positive_share(), number(f.detectors),
                        number(f.pure), number(f.grams), number(f.tokens_covered),
                        number(f.tokens_new), 100 * f.suppressed, 100 * f.shuffled, number(f.range),
                        number(f.oscillatory), number(f.weak)});
    out.positional += number(f.range + f.oscillatory + f.weak);
    if (f.detectors > most) most = f.detectors, out.beyond_null = f.suppressed - f.shuffled;
  }
  return out;
}

void add(study::TableWriter& table, const std::string& name, const Survey& found) {
  for (size_t l = 0; l < found.rows.size(); ++l) {
    std::vector<study::Cell> cells{name, std::to_string(l)};
    for (const double x : found.rows[l]) cells.emplace_back(x);
    table.add(std::move(cells));
  }
}

/// Every position of a window in another place, anew in every window.
lm::Hooks shuffled_positions() {
  lm::Hooks hooks;
  hooks.add("hook_pos_embed", [](std::string_view, const torch::Tensor& rows) {
    auto shuffled = torch::empty_like(rows);
    for (int64_t b = 0; b < rows.size(0); ++b)
      shuffled[b].copy_(rows[b].index_select(0, torch::randperm(rows.size(1), torch::kLong)));
    return shuffled;
  });
  return hooks;
}

std::vector<int32_t> shuffled(std::vector<int32_t> text, Random random) {
  shuffle(text, random);
  return text;
}

/// Neurons gone in percent, largest change of a logit, and nats a token: as it was, without the
/// dead, and with as many neurons that have the longest rows.
std::vector<double> prune(const std::function<lm::Transformer()>& load,
                          const std::vector<int32_t>& text) {
  const torch::NoGradGuard no_grad;
  auto model = load();
  const auto census = atlas::measure(model, text);
  const auto context = atlas::window_tokens(model->config, model->config.context);
  const auto some = std::span(text).first(std::min<size_t>(text.size(), 64 * context));
  const std::vector<int32_t> read(some.begin(), some.end());
  const auto ids =
      atlas::windows(model->config, some.first(some.size() / context * context), context);
  const auto nats = [&](lm::Transformer& form) {
    return lm::evaluate(form, read, std::ssize(read), context, 8).loss();
  };
  const auto before = model->forward(ids);
  const double whole = nats(model);
  const auto alive = surgery::alive_neurons(census);
  const double gone = surgery::keep_neurons(model, alive);
  const double change = (model->forward(ids) - before).abs().max().item<double>();
  auto other = load();
  surgery::keep_neurons(other, surgery::longest_neurons(census, alive));
  return {100 * gone, change, whole, nats(model), nats(other)};
}

/// Claims 4 and 5 on small trained models.
void on_trained(study::Lab& lab) {
  struct Case {
    std::string name;
    std::function<lm::Transformer()> load;
    std::vector<int32_t> text;
  };
  std::vector<Case> cases;
  if (lab.smoke()) {
    const auto plant = [] {
      return atlas::plant_neurons(
          {.layers = 1, .neurons = 256, .vocabulary = 512, .context = 128, .tokens = 8000});
    };
    cases.push_back({"planted", [=] { return plant().model; }, plant().text});
  } else {
    for (const auto seed : lab.seeds()) {
      const auto folder = study::trained_seed(lab, seed);
      if (!folder) return;
      cases.push_back({fmt::format("seed {}", seed), [=] { return lm::load(*folder); },
                       atlas::read_text(*folder, 2048, "classics/train",
                                        lab.by_scale<int64_t>(0, 100'000, 1'000'000))
                           .ids});
    }
  }
  auto table = lab.table("trained models", survey_columns);
  auto pruned = lab.table("dead neurons dropped",
                          {"model", "neurons gone %", "largest change of a logit", "nats a token",
                           "without the dead", "with as many longest instead"});
  std::vector<double> beyond, left, logits, positions;
  for (size_t k = 0; k < cases.size(); ++k) {
    const auto& c = cases[k];
    const auto found = lab.part("trained", k, [&] {
      auto model = c.load();
      return survey(model, c.text);
    });
    add(table, c.name, found);
    const auto without = lab.part("trained, positions shuffled", k, [&] {
      auto model = c.load();
      return survey(model, c.text, shuffled_positions());
    });
    if (k == 0) {
      add(table, c.name + ", positions shuffled", without);
      add(table, c.name + ", tokens shuffled", lab.part("tokens shuffled", [&] {
        auto model = c.load();
        return survey(model, shuffled(c.text, lab.random(7)));
      }));
      add(table, c.name + ", random weights", lab.part("random weights", [&] {
        auto model = lm::initialise(c.load()->config, 1);
        return survey(model, c.text);
      }));
    }
    beyond.push_back(100 * found.beyond_null), positions.push_back(found.positional);
    if (found.positional > 0) left.push_back(without.positional / found.positional);
    const auto p = lab.part("dead neurons dropped", k, [&] { return prune(c.load, c.text); });
    pruned.row(c.name, p[0], p[1], p[2], p[3], p[4]);
    logits.push_back(p[1]);
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
  lab.claim("largest change of a logit when dead neurons are dropped")
      .paper("")
      .measured(logits)
      .at_most(1e-6);
}

void run(study::Lab& lab) {
  planted(lab);
  if (auto subject = study::find_subject(lab, "opt-classics")) {
    exactness(lab, *subject);
    cost(lab, *subject);
    if (!lab.smoke()) {
      auto table = lab.table("opt-classics", survey_columns);
      add(table, subject->name,
          lab.part("opt-classics", [&] { return survey(subject->model, subject->calibration); }));
    }
  }
  on_trained(lab);
  lab.not_shown("more than 70 % dead neurons and the trend to OPT-66b",
                "no such weights here; cajal atlas build MODEL --by-layer prints it for yours");
}

const auto registered = study::add({.slug = "dead-ngram-positional"}, run);
}  // namespace
