#include <algorithm>
#include <cmath>
#include <numeric>

#include "cajal/atlas/correlate.h"
#include "cajal/atlas/matching.h"
#include "cajal/atlas/measure.h"
#include "cajal/atlas/text.h"
#include "cajal/atlas/token_features.h"
#include "cajal/core/timing.h"
#include "cajal/math/ranks.h"
#include "cajal/models/lm/checkpoint.h"
#include "cajal/study/subject.h"
#include "cajal/study/trained_seed.h"

namespace {
using namespace cajal;

/// Claim 1: exact, in whatever order.
double streaming_error(int64_t n, int64_t tokens) {
  const auto common = torch::randn({tokens, n});
  const auto a = (common + torch::randn({tokens, n})).clamp_min(0) + 3,
             b = (common * 2 + torch::randn({tokens, n})).clamp_min(-1);
  atlas::Pearson forward(n, n, {{0, n}}, false), backward(n, n, {{0, n}}, false);
  for (int64_t t = 0; t < tokens; t += 1000) {
    forward.add(a.slice(0, t, t + 1000), b.slice(0, t, t + 1000));
    backward.add(a.slice(0, tokens - t - 1000, tokens - t),
                 b.slice(0, tokens - t - 1000, tokens - t));
  }
  const auto x = a.to(torch::kDouble) - a.to(torch::kDouble).mean(0),
             y = b.to(torch::kDouble) - b.to(torch::kDouble).mean(0);
  const auto reference = torch::mm(x.t(), y) / torch::outer(x.norm(2, 0), y.norm(2, 0));
  return std::max((forward.rho(0, n) - reference).abs().max().item<double>(),
                  (backward.rho(0, n) - reference).abs().max().item<double>());
}

/// Claim 1: near the speed of a plain product. Seconds of the streaming form, of that with products
/// of bf16 and of the product alone, the share of the latter's speed that each reaches, and the
/// difference that bf16 makes.
std::vector<double> streaming_speed(int64_t wide, int64_t piece, int rounds) {
  const auto p = torch::randn({piece, wide}), q = torch::randn({piece, wide});
  atlas::Pearson sums(wide, wide, {{0, wide}}, false);
  atlas::Pearson rounded(wide, wide, {{0, wide}}, false, Precision::bf16);
  torch::Tensor plain;
  const auto times = time_interleaved(
      {[&] { sums.add(p, q); }, [&] { rounded.add(p, q); }, [&] { plain = torch::mm(p.t(), q); }},
      rounds);
  return {times.median_seconds(0),
          times.median_seconds(1),
          times.median_seconds(2),
          times.ratio(2, 0),
          times.ratio(2, 1),
          (sums.rho(0, wide) - rounded.rho(0, wide)).abs().max().item<double>()};
}

void streaming(study::Lab& lab) {
  const int64_t wide = lab.by_scale(256, 3072, 4608), piece = 4096;
  lab.claim("streaming correlation: largest error against two passes in double")
      .paper("")
      .measured(lab.part("streaming",
                         [&] {
                           return streaming_error(lab.by_scale(50, 200, 200),
                                                  lab.by_scale(3000, 50'000, 50'000));
                         }))
      .at_most(1e-6);
  const auto f =
      lab.part("speed", [&] { return streaming_speed(wide, piece, lab.by_scale(2, 5, 15)); });
  const double pairs =
      static_cast<double>(wide) * static_cast<double>(wide) * static_cast<double>(piece);
  auto table = lab.table(fmt::format("all pairs of {} and {} neurons", wide, wide),
                         {"form", "neuron-pair-tokens/s", "GFLOP/s", "speed / libtorch's GEMM"});
  const char* const forms[] = {"streaming Pearson", "the same, products of bf16",
                               "libtorch's product alone"};
  for (size_t i = 0; i < 3; ++i)
    table.row(forms[i], pairs / f[i], 2e-9 * pairs / f[i], i < 2 ? f[3 + i] : 1.0);
  lab.claim("share of plain GEMM's speed on the same shapes")
      .paper("")
      .measured(f[3])
      .at_least(0.5);
  lab.note(
      fmt::format("10 million tokens of all pairs of two models of 36,864 neurons (12 x 3072) "
                  "would take {:.1f} h at this rate, {:.1f} h with bf16, extrapolated",
                  36864.0 * 36864.0 * 1e7 / (pairs / f[0]) / 3600,
                  36864.0 * 36864.0 * 1e7 / (pairs / f[1]) / 3600));
  lab.claim("largest difference that bf16 makes to rho").paper("").measured(f[5]).at_most(1e-3);
}

/// Claim 2: two "models" that share some features of tokens. Share of those that found their
/// partner, and false matches.
std::vector<double> plant(study::Lab& lab, uint64_t seed) {
  const int64_t m = lab.by_scale(120, 400, 1000), shared = m / 5,
                tokens = lab.by_scale(2000, 20'000, 100'000), v = 500;
  const auto ids = torch::randint(0, v, {tokens}, torch::kLong);
  const auto features = torch::randn({v, shared}), private_a = torch::randn({v, m - shared}),
             private_b = torch::randn({v, m - shared});
  const auto make = [&](const torch::Tensor& own) {
    auto a = torch::cat({features, own}, 1).index_select(0, ids) + 0.3 * torch::randn({tokens, m});
    return (a * (0.5 + torch::rand({m}))).clamp_min(0);
  };
  const auto order = torch::randperm(m, torch::kLong);
  const auto a = make(private_a), b = make(private_b).index_select(1, order);
  atlas::Pearson sums(m, m, {{0, m}}, true);
  for (int64_t t = 0; t < tokens; t += 2000)
    sums.add(a.slice(0, t, t + 2000), b.slice(0, t, t + 2000));
  const auto [best, place] = sums.rho(0, m).max(1);
  const auto turned =
      std::get<0>(sums.turned(0, atlas::random_turn(atlas::Basis::orthogonal, m, seed)).max(1));
  const auto universal = (best - turned) > 0.5,
             right = order.index_select(0, place) == torch::arange(m, torch::kLong);
  return {
      (universal & right).slice(0, 0, shared).to(torch::kDouble).mean().item<double>(),
      (universal & ~right).sum().item<double>() + universal.slice(0, shared).sum().item<double>()};
}

void planted(study::Lab& lab) {
  std::vector<double> found, wrong;
  for (uint64_t seed = 0; seed < lab.by_scale<uint64_t>(1, 5, 5); ++seed) {
    const auto f = lab.part("planted pair", seed, [&] { return plant(lab, seed); });
    found.push_back(f[0]), wrong.push_back(f[1]);
  }
  lab.claim("planted pair: shared neurons matched to their partner")
      .paper("")
      .measured(found)
      .in_percent()
      .at_least(0.99);
  lab.claim("planted pair: false matches above an excess of 0.5")
      .paper("")
      .measured(wrong)
      .at_most(0);
}

double mean(const std::vector<double>& x) {
  return x.empty() ? 0 : std::accumulate(x.begin(), x.end(), 0.0) / static_cast<double>(x.size());
}

struct Seed {
  lm::Transformer model{nullptr};
  std::vector<int32_t> ids;
  std::vector<std::string> tokens;
};

std::vector<Seed> seeds(study::Lab& lab) {
  std::vector<Seed> out;
  const auto text = lab.by_scale<int64_t>(1000, 60'000, 1'000'000);
  for (const auto seed : std::vector<uint64_t>{0, 1, 2}) {
    auto& s = out.emplace_back();
    if (lab.smoke()) {
      const Json tiny = {{"model_type", "opt"},
                         {"hidden_size", 32},
                         {"num_hidden_layers", 2},
                         {"num_attention_heads", 2},
                         {"ffn_dim", 64},
                         {"vocab_size", 64},
                         {"max_position_embeddings", 64},
                         {"word_embed_proj_dim", 32}};
      s.model = lm::initialise(lm::config_from_json(tiny, "tiny"), seed, 0.3);
      for (int64_t t = 0; t < text; ++t)
        s.ids.push_back(static_cast<int32_t>((t * t * 7 + t * 3) % 64));
      for (int v = 0; v < 64; ++v) s.tokens.push_back(std::string(1, static_cast<char>(32 + v)));
      continue;
    }
    const auto folder = study::trained_seed(lab, seed);
    if (!folder) return {};
    s.model = lm::load(*folder);
    const auto reading = atlas::read_text(*folder, 2048, "classics/train", text);
    s.ids = reading.ids;
    for (int32_t v = 0; v < 2048; ++v)
      s.tokens.push_back(reading.tokenizer->decode(std::span(&v, 1), text::Specials::with));
  }
  return out;
}

/// The best of each neuron of the first seed among those of another.
struct Best {
  std::vector<double> rho, turned;
  std::vector<int64_t> index;
};
CAJAL_OPTIONS(Best, rho, turned, index)

Best match(study::Lab& lab, const std::string& name, Seed& a, Seed& b,
           const atlas::CorrelateOptions& options = {}) {
  return lab.part(name, [&] {
    const auto found = atlas::correlate(a.model, b.model, a.ids, options);
    Best out{.rho = {}, .turned = found.turned, .index = {}};
    for (size_t i = 0; i < found.turned.size(); ++i) {
      const auto& best = found.best[i * static_cast<size_t>(found.kept)];
      out.rho.push_back(static_cast<double>(best.rho)), out.index.push_back(best.index);
    }
    return out;
  });
}

double excess(const std::vector<Best>& all, size_t i) {
  double sum = 0;
  for (const auto& m : all) sum += (m.rho[i] - m.turned[i]) / static_cast<double>(all.size());
  return sum;
}

/// What is known of each neuron of a seed from its text and weights.
struct Traits {
  std::vector<double> reduction, kurtosis, length;
};
CAJAL_OPTIONS(Traits, reduction, kurtosis, length)

Traits traits(Seed& s) {
  Traits out;
  for (const auto& e : atlas::explain(s.model, s.ids, atlas::token_features(s.tokens),
                                      std::min<int64_t>(128, s.model->config.context)))
    out.reduction.push_back(e.reduction);
  const auto census = atlas::measure(s.model, s.ids, {.tables = true});
  for (size_t l = 0; l < census.layers.size(); ++l) {
    const auto& layer = census.layers[l];
    for (int64_t n = 0; n < layer.neurons; ++n)
      out.kurtosis.push_back(layer.tables.moments.shape(n, layer.tokens).kurtosis);
    out.length.insert(out.length.end(), layer.value_norm.begin(), layer.value_norm.end());
  }
  return out;
}

/// Other ways of matching: mean of the best figure of each, and how often it names the neuron that
/// correlation names.
void other_ways(study::Lab& lab, Seed& a, Seed& b, const Best& by_rho) {
  const auto rows = lab.part("other ways of matching", [&] {
    const auto found = atlas::match_otherwise(a.model, b.model, a.ids,
                                              std::min<int64_t>(128, a.model->config.context));
    const auto named = torch::tensor(by_rho.index, torch::kLong);
    std::vector<std::vector<double>> out;
    for (const auto& table : {found.overlap, found.keys}) {
      const auto [best, place] = table.max(1);
      out.push_back(
          {best.mean().item<double>(), place.eq(named).to(torch::kDouble).mean().item<double>()});
    }
    const auto same = torch::arange(named.size(0), torch::kLong).eq(named).to(torch::kDouble);
    out.push_back({found.same_index.mean().item<double>(), same.mean().item<double>()});
    return out;
  });
  auto table = lab.table("other ways of matching seed 0 with seed 1",
                         {"by", "mean of the best", "names the neuron that correlation names, %"});
  const char* const names[] = {"overlap of the tokens it fires at (Jaccard)", "cosine of key rows",
                               "the same index (correlation)"};
  table.row("correlation", mean(by_rho.rho), 100);
  for (size_t k = 0; k < 3; ++k) table.row(names[k], rows[k][0], 100 * rows[k][1]);
}

/// Claims 3 and 4.
void on_seeds(study::Lab& lab) {
  auto models = seeds(lab);
  if (models.empty()) return;
  auto& a = models[0];
  const auto self = match(lab, "seed 0 with itself", a, a);
  double diagonal = 0;
  for (const double rho : self.rho)
    diagonal += rho == 0 /* constant: dead */ || std::fabs(rho - 1) < 1e-5;
  lab.claim("a model with itself: neurons that match themselves")
      .paper("")
      .measured(diagonal / static_cast<double>(self.rho.size()))
      .in_percent()
      .at_least(1);
  std::vector<Best> turned, gaussian, shuffled;
  for (size_t k = 1; k < models.size(); ++k) {
    const auto with = [&](const char* how, const atlas::CorrelateOptions& options) {
      return match(lab, fmt::format("seed 0 with seed {}{}", k, how), a, models[k], options);
    };
    turned.push_back(with("", {}));
    gaussian.push_back(with(", Gaussian turn", {.turned = atlas::Basis::gaussian}));
    shuffled.push_back(with(", permuted tokens", {.shuffle = true}));
  }
  other_ways(lab, a, models[1], turned[0]);
  const auto known = lab.part("traits", [&] { return traits(a); });
  auto table = lab.table("universal neurons of seed 0",
                         {"layer", "best rho", "turned basis", "Gaussian turn", "excess",
                          "universal %", "permuted tokens %", "explained: universal", "others",
                          "|w| universal", "others", "kurtosis universal", "others"});
  std::vector<double> paired, reduction[2], kurtosis[2];
  double universal = 0, permuted = 0;
  const auto all = self.rho.size(), layers = static_cast<size_t>(a.model->config.layers);
  for (size_t l = 0; l < layers; ++l) {
    std::vector<double> rho, base, other, over, part[2], length[2], peaked[2];
    double chance = 0, many = 0;
    for (size_t i = l * all / layers; i < (l + 1) * all / layers; ++i) {
      for (size_t k = 0; k < turned.size(); ++k) {
        rho.push_back(turned[k].rho[i]), base.push_back(turned[k].turned[i]);
        other.push_back(gaussian[k].turned[i]);
      }
      over.push_back(excess(turned, i));
      const bool is = over.back() > 0.5;
      many += is, chance += excess(shuffled, i) > 0.5;
      part[is].push_back(known.reduction[i]), length[is].push_back(known.length[i]);
      peaked[is].push_back(known.kurtosis[i]);
    }
    for (const bool is : {false, true}) {
      reduction[is].insert(reduction[is].end(), part[is].begin(), part[is].end());
      kurtosis[is].insert(kurtosis[is].end(), peaked[is].begin(), peaked[is].end());
    }
    paired.push_back(mean(rho) - mean(base));
    universal += many, permuted += chance;
    const auto share = 100.0 / static_cast<double>(over.size());
    table.row(std::to_string(l), mean(rho), mean(base), mean(other), mean(over), many * share,
              chance * share, mean(part[1]), mean(part[0]), mean(length[1]), mean(length[0]),
              mean(peaked[1]), mean(peaked[0]));
  }
  lab.claim("mean best correlation above the turned basis, least over the layers")
      .paper("yes")
      .measured(*std::min_element(paired.begin(), paired.end()))
      .at_least(1e-9);
  lab.claim("share of universal neurons")
      .paper("1 to 5 %")
      .measured(universal / static_cast<double>(all))
      .in_percent()
      .between(0.005, 0.3);
  lab.claim("the same with permuted tokens")
      .paper("0")
      .measured(permuted / static_cast<double>(all))
      .in_percent()
      .at_most(0);
  if (reduction[1].empty()) {
    lab.not_shown("what universal neurons respond to", "no neuron is universal here");
    return;
  }
  lab.claim("variance explained by one token feature: universal over others")
      .paper("")
      .measured(mean(reduction[1]) / std::max(1e-9, mean(reduction[0])))
      .at_least(2);
  lab.claim("kurtosis of universal neurons is higher (Mann-Whitney p)")
      .paper("higher")
      .measured(math::mann_whitney(kurtosis[1], kurtosis[0]))
      .at_most(0.01);
  plot::Lines chart{.title = "Universality beyond a turned basis",
                    .x = {"excess correlation at least"},
                    .y = {"% of all neurons"}};
  auto& line =
      chart.series.emplace_back(plot::Series{.name = "seeds 1 and 2 in seed 0", .x = {}, .y = {}});
  for (double at = 0; at <= 1; at += 0.05) {
    double more = 0;
    for (size_t k = 0; k < all; ++k) more += excess(turned, k) >= at;
    line.x.push_back(at), line.y.push_back(100 * more / static_cast<double>(all));
  }
  lab.plot(chart);
}

/// Claim 5: neurons that write on a head's query direction for the begin token.
void deactivation(study::Lab& lab, study::Subject& s) {
  const auto rows = lab.part("attention deactivation", [&] {
    const auto& c = s.config();
    const int64_t begin = c.begin_id >= 0 ? c.begin_id : 0,
                  context = std::min<int64_t>(256, c.context), batch = lab.by_scale(1, 4, 16);
    std::vector<int64_t> text;
    for (int64_t t = 0; t < batch * (context - 1); ++t)
      text.push_back(s.valid[static_cast<size_t>(t) % s.valid.size()]);
    const auto ids = torch::cat({torch::full({batch, 1}, begin, torch::kLong),
                                 torch::tensor(text).reshape({batch, context - 1})},
                                1);
    std::vector<std::vector<double>> out;
    for (const auto& n : atlas::head_switches(s.model, ids))
      out.push_back({static_cast<double>(n.from), static_cast<double>(n.neuron),
                     static_cast<double>(n.layer), static_cast<double>(n.head), n.score, n.before,
                     n.after, n.as_the_score_says() ? 1.0 : 0.0});
    return out;
  });
  auto table = lab.table("neurons on the query direction of the begin token: " + s.name,
                         {"neuron", "head", "score", "begin attention", "without it"});
  double right = 0;
  for (const auto& r : rows) {
    table.row(fmt::format("{}.{}", r[0], r[1]), fmt::format("{}.{}", r[2], r[3]), r[4], r[5], r[6]);
    right += r[7];
  }
  lab.claim(s.name + ": path ablation moves begin attention as the score says, of the top 20")
      .paper("")
      .measured(rows.empty() ? 0 : right / static_cast<double>(rows.size()))
      .in_percent()
      .at_least(0.8);
}

void run(study::Lab& lab) {
  streaming(lab);
  planted(lab);
  on_seeds(lab);
  if (auto s = study::find_subject(lab, "opt-classics")) deactivation(lab, *s);
  lab.not_shown(
      "the exact 1 to 5 % of GPT-2 and Pythia over five seeds",
      "their weights are not here; cajal atlas match A.db MODEL --with OTHER does it for yours");
}

const auto registered = study::add({.slug = "universal-neurons"}, run);
}  // namespace
