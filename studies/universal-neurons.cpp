#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "cajal/atlas/confidence.h"
#include "cajal/atlas/correlate.h"
#include "cajal/atlas/measure.h"
#include "cajal/atlas/text.h"
#include "cajal/atlas/token_features.h"
#include "cajal/core/timing.h"
#include "cajal/models/lm/checkpoint.h"
#include "cajal/study/subject.h"
#include "cajal/study/trained_seed.h"

namespace {
using namespace cajal;
using atlas::Matches;

/// Claim 1: exact, in whatever order, and near the speed of a plain product.
void streaming(study::Lab& lab) {
  const int64_t n = lab.by_scale(50, 200, 200), tokens = lab.by_scale(3000, 50'000, 50'000);
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
  lab.claim("streaming correlation: largest error against two passes in double")
      .paper("")
      .measured(std::max((forward.rho(0, n) - reference).abs().max().item<double>(),
                         (backward.rho(0, n) - reference).abs().max().item<double>()))
      .at_most(1e-6);

  const int64_t wide = lab.by_scale(256, 3072, 4608), piece = 4096;
  const auto p = torch::randn({piece, wide}), q = torch::randn({piece, wide});
  atlas::Pearson sums(wide, wide, {{0, wide}}, false);
  atlas::Pearson rounded(wide, wide, {{0, wide}}, false, Precision::bf16);
  torch::Tensor plain;
  const auto times = time_interleaved(
      {[&] { sums.add(p, q); }, [&] { rounded.add(p, q); }, [&] { plain = torch::mm(p.t(), q); }},
      lab.by_scale(2, 7, 15));
  const double pairs =
      static_cast<double>(wide) * static_cast<double>(wide) * static_cast<double>(piece);
  auto table = lab.table(fmt::format("all pairs of {} and {} neurons", wide, wide),
                         {"form", "neuron-pair-tokens/s", "GFLOP/s", "speed / libtorch's GEMM"});
  const char* const forms[] = {"streaming Pearson", "the same, products of bf16",
                               "libtorch's product alone"};
  for (size_t i = 0; i < 3; ++i)
    table.row(forms[i], pairs / times.median_seconds(i), 2e-9 * pairs / times.median_seconds(i),
              times.ratio(2, i));
  lab.claim("share of plain GEMM's speed on the same shapes")
      .paper("")
      .measured(times.ratio(2, 0))
      .at_least(0.5);
  lab.note(
      fmt::format("10 million tokens of all pairs of two models of 36,864 neurons (12 x 3072) "
                  "would take {:.1f} h at this rate, {:.1f} h with bf16, extrapolated",
                  36864.0 * 36864.0 * 1e7 / (pairs / times.median_seconds(0)) / 3600,
                  36864.0 * 36864.0 * 1e7 / (pairs / times.median_seconds(1)) / 3600));
  lab.claim("largest difference that bf16 makes to rho")
      .paper("")
      .measured((sums.rho(0, wide) - rounded.rho(0, wide)).abs().max().item<double>())
      .at_most(1e-3);
}

/// Claim 2: two "models" that share some features of tokens.
void planted(study::Lab& lab) {
  std::vector<double> found, wrong;
  for (int seed = 0; seed < lab.by_scale(1, 5, 5); ++seed) {
    seed_everything(static_cast<uint64_t>(seed));
    const int64_t m = lab.by_scale(120, 400, 1000), shared = m / 5,
                  tokens = lab.by_scale(2000, 20'000, 100'000), v = 500;
    const auto ids = torch::randint(0, v, {tokens}, torch::kLong);
    const auto features = torch::randn({v, shared}), private_a = torch::randn({v, m - shared}),
               private_b = torch::randn({v, m - shared});
    const auto make = [&](const torch::Tensor& own) {
      auto a =
          torch::cat({features, own}, 1).index_select(0, ids) + 0.3 * torch::randn({tokens, m});
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
    found.push_back(
        (universal & right).slice(0, 0, shared).to(torch::kDouble).mean().item<double>());
    wrong.push_back((universal & ~right).sum().item<double>() +
                    universal.slice(0, shared).sum().item<double>());
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

/// One-sided Mann-Whitney p of a being larger than b, by the normal approximation.
double mann_whitney(const std::vector<double>& a, const std::vector<double>& b) {
  double u = 0;
  for (const double x : a)
    for (const double y : b) u += x > y ? 1 : x == y ? 0.5 : 0;
  const auto n = static_cast<double>(a.size()), m = static_cast<double>(b.size());
  return 0.5 * std::erfc((u - n * m / 2) / std::sqrt(n * m * (n + m + 1) / 12) / std::sqrt(2.0));
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

double excess(const std::vector<Matches>& all, size_t i) {
  double sum = 0;
  for (const auto& m : all)
    sum += m.excess(static_cast<int64_t>(i)) / static_cast<double>(all.size());
  return sum;
}

/// Claims 3 and 4.
void on_seeds(study::Lab& lab) {
  auto models = seeds(lab);
  if (models.empty()) return;
  auto& a = models[0];
  const auto self = atlas::correlate(a.model, a.model, a.ids);
  double diagonal = 0;
  for (int64_t i = 0; i < std::ssize(self.turned); ++i)
    diagonal += self.best[i * self.kept].rho == 0 /* constant: dead */ ||
                std::fabs(self.best[i * self.kept].rho - 1) < 1e-5;
  lab.claim("a model with itself: neurons that match themselves")
      .paper("")
      .measured(diagonal / static_cast<double>(self.turned.size()))
      .in_percent()
      .at_least(1);

  std::vector<Matches> turned, gaussian, shuffled;
  for (size_t k = 1; k < models.size(); ++k) {
    turned.push_back(atlas::correlate(a.model, models[k].model, a.ids));
    gaussian.push_back(
        atlas::correlate(a.model, models[k].model, a.ids, {.turned = atlas::Basis::gaussian}));
    shuffled.push_back(atlas::correlate(a.model, models[k].model, a.ids, {.shuffle = true}));
  }
  const auto why = atlas::explain(a.model, a.ids, atlas::token_features(a.tokens),
                                  std::min<int64_t>(128, a.model->config.context));
  const auto census = atlas::measure(a.model, a.ids, {.tables = true});
  auto table = lab.table("universal neurons of seed 0",
                         {"layer", "best rho", "turned basis", "Gaussian turn", "excess",
                          "universal %", "permuted tokens %", "explained: universal", "others",
                          "|w| universal", "others", "kurtosis universal", "others"});
  std::vector<double> paired, reduction[2], kurtosis[2];
  double universal = 0, permuted = 0;
  size_t i = 0;
  for (int64_t l = 0; l < a.model->config.layers; ++l) {
    const auto& layer = census.layers[l];
    const auto norms = atlas::value_norms(a.model->blocks[l].ffn);
    std::vector<double> rho, base, other, over, part[2], length[2], peaked[2];
    double chance = 0, many = 0;
    for (int64_t n = 0; n < layer.neurons; ++n, ++i) {
      for (size_t k = 0; k < turned.size(); ++k) {
        rho.push_back(turned[k].best[i * turned[k].kept].rho), base.push_back(turned[k].turned[i]),
            other.push_back(gaussian[k].turned[i]);
      }
      over.push_back(excess(turned, i));
      const bool is = over.back() > 0.5;
      many += is, chance += excess(shuffled, i) > 0.5;
      const double shape = layer.tables.moments.shape(n, layer.tokens).kurtosis;
      part[is].push_back(why[i].reduction), length[is].push_back(norms[n]),
          peaked[is].push_back(shape);
      reduction[is].push_back(why[i].reduction), kurtosis[is].push_back(shape);
    }
    paired.push_back(mean(rho) - mean(base));
    universal += many, permuted += chance;
    const auto share = 100.0 / static_cast<double>(layer.neurons);
    table.row(std::to_string(l), mean(rho), mean(base), mean(other), mean(over), many * share,
              chance * share, mean(part[1]), mean(part[0]), mean(length[1]), mean(length[0]),
              mean(peaked[1]), mean(peaked[0]));
  }
  const auto all = static_cast<double>(i);
  lab.claim("mean best correlation above the turned basis, least over the layers")
      .paper("yes")
      .measured(*std::min_element(paired.begin(), paired.end()))
      .at_least(1e-9);
  lab.claim("share of universal neurons")
      .paper("1 to 5 %")
      .measured(universal / all)
      .in_percent()
      .between(0.005, 0.3);
  lab.claim("the same with permuted tokens")
      .paper("0")
      .measured(permuted / all)
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
      .measured(mann_whitney(kurtosis[1], kurtosis[0]))
      .at_most(0.01);
  plot::Lines chart{.title = "Universality beyond a turned basis",
                    .x = {"excess correlation at least"},
                    .y = {"% of all neurons"}};
  auto& line =
      chart.series.emplace_back(plot::Series{.name = "seeds 1 and 2 in seed 0", .x = {}, .y = {}});
  for (double at = 0; at <= 1; at += 0.05) {
    double more = 0;
    for (size_t k = 0; k < i; ++k) more += excess(turned, k) >= at;
    line.x.push_back(at), line.y.push_back(100 * more / all);
  }
  lab.plot(chart);
}

/// Claim 5: neurons that write on a head's query direction for the begin token.
void deactivation(study::Lab& lab, study::Subject& s) {
  const torch::NoGradGuard no_grad;
  auto& model = s.model;
  const auto& c = s.config();
  require(c.norm == lm::NormKind::layer && c.positions == lm::Positions::learned &&
              !model->blocks[0].attention.fused.defined(),
          "deactivation: expected an OPT model");
  const int64_t begin = c.begin_id >= 0 ? c.begin_id : 0,
                context = std::min<int64_t>(256, c.context), batch = lab.by_scale(1, 4, 16);
  std::vector<int64_t> text;
  for (int64_t t = 0; t < batch * (context - 1); ++t)
    text.push_back(s.valid[static_cast<size_t>(t) % s.valid.size()]);
  const auto ids = torch::cat({torch::full({batch, 1}, begin, torch::kLong),
                               torch::tensor(text).reshape({batch, context - 1})},
                              1);
  std::map<std::string, torch::Tensor, std::less<>> seen;
  lm::Hooks hooks;
  for (const char* point :
       {"*hook_resid_pre", "*attn.hook_k", "*attn.hook_q", "*attn.hook_pattern", "*mlp.hook_post"})
    hooks.add(point, [&](std::string_view name, const torch::Tensor& value) {
      seen[std::string(name)] = value;
      return torch::Tensor();
    });
  lm::Pass pass;
  pass.hooks = &hooks;
  model->forward(ids, pass);
  struct Candidate {
    double score;
    int64_t from, neuron, layer, head;
  };
  std::vector<Candidate> all;
  const int64_t d = c.head_width;
  for (int64_t layer = 1; layer < c.layers; ++layer) {
    const auto& block = model->blocks[layer];
    const auto key =
        seen[fmt::format("blocks.{}.attn.hook_k", layer)][0][0];  // [heads, d], of the begin token
    const auto query = block.attention.query.weight.decoded().reshape({c.heads, d, c.width});
    const auto direction = torch::einsum("hd,hdw->hw", {key, query}) * block.norm1.weight /
                           std::sqrt(static_cast<double>(d));
    for (int64_t from = 0; from < layer; ++from) {
      const auto rows = atlas::value_rows(model->blocks[from].ffn);
      const auto scores = torch::mm(rows - rows.mean(1, true), direction.t());  // [neurons, heads]
      const auto [value, place] = scores.reshape({-1}).abs().topk(3);
      for (int64_t k = 0; k < 3; ++k) {
        const auto at = place[k].item<int64_t>();
        all.push_back(
            {scores.reshape({-1})[at].item<double>(), from, at / c.heads, layer, at % c.heads});
      }
    }
  }
  std::sort(all.begin(), all.end(),
            [](const auto& x, const auto& y) { return std::fabs(x.score) > std::fabs(y.score); });
  all.resize(std::min<size_t>(all.size(), 20));
  auto table = lab.table("neurons on the query direction of the begin token: " + s.name,
                         {"neuron", "head", "score", "begin attention", "without it"});
  double right = 0, counted = 0;
  for (const auto& n : all) {
    const auto& block = model->blocks[n.layer];
    const auto x = seen[fmt::format("blocks.{}.hook_resid_pre", n.layer)],
               k = seen[fmt::format("blocks.{}.attn.hook_k", n.layer)];
    const auto act = seen[fmt::format("blocks.{}.mlp.hook_post", n.from)].select(-1, n.neuron);
    const auto without =
        x - act.unsqueeze(-1) * atlas::value_rows(model->blocks[n.from].ffn)[n.neuron];
    const auto q = block.attention.query
                       .forward(torch::layer_norm(without, {c.width}, block.norm1.weight,
                                                  block.norm1.bias, c.epsilon))
                       .reshape({batch, context, c.heads, d})
                       .select(2, n.head);
    auto scores = torch::matmul(q, k.select(2, n.head).transpose(1, 2)) * c.score_scale;
    scores = scores + torch::full({context, context}, -INFINITY).triu(1);
    // Where the neuron fires: elsewhere taking it away changes nothing.
    const auto fires = act.slice(1, 64) > 0;
    if (fires.sum().item<int64_t>() == 0) continue;
    const auto after = torch::softmax(scores, -1)
                           .select(-1, 0)
                           .slice(1, 64)
                           .masked_select(fires)
                           .mean()
                           .item<double>();
    const auto before = seen[fmt::format("blocks.{}.attn.hook_pattern", n.layer)]
                            .select(1, n.head)
                            .select(-1, 0)
                            .slice(1, 64)
                            .masked_select(fires)
                            .mean()
                            .item<double>();
    ++counted, right += (before - after) * n.score > 0;
    table.row(fmt::format("{}.{}", n.from, n.neuron), fmt::format("{}.{}", n.layer, n.head),
              n.score, before, after);
  }
  lab.claim(s.name + ": path ablation moves begin attention as the score says, of the top 20")
      .paper("")
      .measured(counted > 0 ? right / counted : 0)
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
