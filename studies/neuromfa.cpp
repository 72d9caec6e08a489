#include <algorithm>
#include <cmath>

#include "cajal/atlas/emergence.h"
#include "cajal/atlas/text.h"
#include "cajal/core/timing.h"
#include "cajal/data/catalogue.h"
#include "cajal/math/ranks.h"
#include "cajal/models/lm/checkpoint.h"
#include "cajal/study/study.h"

namespace {
using namespace cajal;
using torch::Tensor;

/// The spectrum of a graph whose dimensions are known.
struct Planted {
  double alpha_0 = 0, width = 0, top = 0, turn = 0, tau_0 = 0;
};
CAJAL_OPTIONS(Planted, alpha_0, width, top, turn, tau_0)

Planted plant(study::Lab& lab, const std::vector<double>& dimensions, double c, double q_max) {
  return lab.part(fmt::format("planted {}", fmt::join(dimensions, ", ")), [&] {
    const auto s = atlas::multifractal(
        atlas::planted_graph(dimensions, lab.by_scale(5, 20, 50),
                             lab.by_scale(2000, 10'000, 100'000), c, 1),
        {.theta = 1e6, .q_max = q_max, .q_steps = static_cast<int64_t>(10 * q_max)});
    Planted out{s.alpha_0, s.width, *std::max_element(s.f.begin(), s.f.end()), 0,
                std::abs(s.tau[s.tau.size() / 2])};
    for (size_t i = 1; i < s.alpha.size(); ++i)
      out.turn = std::max(out.turn, s.alpha[i] - s.alpha[i - 1]);
    return out;
  });
}

/// Works when 1, on graphs whose spectrum is known.
void planted(study::Lab& lab) {
  auto table = lab.table("planted graphs", {"dimensions", "alpha_0", "width", "expected width",
                                            "largest f", "worst turn of alpha"});
  const auto row = [&](const std::vector<double>& dimensions, double c, double q_max,
                       double width) {
    const auto s = plant(lab, dimensions, c, q_max);
    table.row(fmt::format("{}", fmt::join(dimensions, ", ")), s.alpha_0, s.width, width, s.top,
              s.turn);
    return s;
  };
  row({1}, 100, 3, 0);
  const auto one = row({1.5}, 100, 3, 0);  // the dossier's; whole radii bend the others more
  row({2}, 100, 3, 0);
  const auto two = row({1, 2}, 1000, 10, 1);
  lab.claim("one dimension D = 1.5: |alpha_0 - D|")
      .measured(std::abs(one.alpha_0 - 1.5))
      .at_most(0.05);
  lab.claim("one dimension: width").measured(one.width).at_most(0.05);
  lab.claim("two dimensions 1 apart: width at |q| = 10").measured(two.width).between(0.85, 1.15);
  lab.claim("tau(0)").paper("0").measured(one.tau_0).at_most(0);
  lab.claim("planted: largest f, and rise of alpha")
      .paper("0, falling")
      .measured(std::max(std::abs(one.top), one.turn))
      .at_most(1e-3);
}

/// Works when 2 and 3: {tau against the definition by loops, same bits for any order and number of
/// threads, against the published algorithm}.
std::vector<double> mechanics(bool smoke) {
  auto graph = atlas::planted_graph({1.2, 1.7}, 400, 300, 300, 3);
  ThreadPool one(1), many(3);
  const atlas::MultifractalOptions options{.theta = 1000};
  const auto counts = atlas::count_mass(graph, options);
  const auto a = atlas::multifractal(counts, options, one);
  std::vector<double> x;
  for (const double r : counts.radii) x.push_back(std::log(r / counts.radii.back()));
  std::vector<std::vector<double>> share;  // of each radius and node: N(r) / N at the last
  for (const double r : counts.radii) {
    auto& row = share.emplace_back();
    for (const auto& node : graph) {
      double n = 1, all = 1;
      for (const double d : node) {
        const bool kept = d > options.least && d <= options.theta;
        all += kept, n += kept && std::nearbyint(d) <= r;
      }
      if (all > 11) row.push_back(n / all);
    }
  }
  double worst = 0;
  for (size_t q = 0; q < a.q.size(); q += smoke ? 20 : 1) {
    std::vector<double> y;
    for (const auto& row : share) {
      double z = 0;
      for (const double n : row) z += std::pow(n, a.q[q]);
      y.push_back(std::log(z));
    }
    worst = std::max(worst, std::abs(math::fit_line(x, y).slope - a.tau[q]));
  }
  std::reverse(graph.begin(), graph.end());
  const auto b = atlas::multifractal(atlas::count_mass(graph, options), options, many);
  return {worst, a.tau == b.tau && a.alpha_0 == b.alpha_0 ? 1.0 : 0.0};
}

/// Works when 4, a model of the size of Pythia-160M: {seconds of the whole graph, its memory over
/// the model's, seconds of a sample, megabytes, nodes}.
std::vector<double> speed(const study::Lab& lab) {
  const int64_t layers = lab.by_scale(1, 12, 24), width = lab.by_scale(64, 768, 1024);
  const Json json = {{"model_type", "opt"},
                     {"hidden_size", width},
                     {"word_embed_proj_dim", width},
                     {"num_hidden_layers", layers},
                     {"num_attention_heads", width / 64},
                     {"ffn_dim", 4 * width},
                     {"vocab_size", lab.by_scale(64, 50304, 50304)},
                     {"max_position_embeddings", 64}};
  const torch::NoGradGuard no_grad;
  const auto model = lm::initialise(lm::config_from_json(json, "neuromfa"), 1);
  int64_t bytes = 0;
  for (const auto& p : model->parameters()) bytes += static_cast<int64_t>(p.nbytes());
  ThreadPool threads;
  const int64_t before = peak_memory_bytes();
  const Stopwatch watch;
  const auto whole =
      atlas::multifractal(atlas::count_mass(atlas::edge_layers(model), {}, threads), {}, threads);
  const double seconds = watch.seconds();
  const double memory =
      static_cast<double>(std::max(peak_memory_bytes() - before, int64_t{0}) + bytes) /
      static_cast<double>(bytes);
  const Stopwatch sampled_watch;
  atlas::multifractal(atlas::sample_graph(model));
  const double sampled = sampled_watch.seconds();
  return {seconds, memory, sampled, static_cast<double>(bytes) / 1e6,
          static_cast<double>(whole.nodes)};
}

using Moment = atlas::EmergenceMoment;

/// Works when 5.
void trained(study::Lab& lab) {
  Tensor train_ids, valid_ids;
  if (lab.smoke()) {
    train_ids = torch::randint(256, {2000}, torch::kLong),
    valid_ids = torch::randint(256, {2000}, torch::kLong);
  } else {
    try {
      data::find_dataset("classics");
    } catch (const Error& absent) {
      return lab.not_shown("emergence while training", absent.what());
    }
    const auto bytes = [](const char* text, int64_t count) {
      return torch::tensor(
                 atlas::read_text(std::filesystem::temp_directory_path(), 256, text, count).ids)
          .to(torch::kLong);
    };
    train_ids = bytes("classics/train", 4'000'000), valid_ids = bytes("classics/valid", 200'000);
  }
  auto table =
      lab.table("while training (byte-level GPT-NeoX on the classics, first seed)",
                {"model", "step", "valid loss", "accuracy", "alpha_0", "sd", "width", "sd of width",
                 "E", "E shuffled", "E normal", "kurtosis", "norm spread", "Hill", "spectral",
                 "E, theta 100", "E, theta 200", "samples not a spectrum"});
  auto summary = lab.table(
      "rank correlation with valid accuracy over steps",
      {"model", "E", "E of shuffled weights", "E of normal weights", "kurtosis", "norm spread",
       "Hill", "spectral", "loss", "final |E| in sd of re-initialisations"});
  bool beats = true;
  double deviations = 1e300, at_start = 0;
  for (const auto& [layers, width] : {std::pair<int64_t, int64_t>(2, 64), {4, 128}}) {
    const auto name = fmt::format("{} x {}", layers, width);
    std::vector<study::Figure> rho(8);
    study::Figure end;
    for (const auto seed : lab.seeds()) {
      const auto run = lab.part(name, seed, [&] {
        return atlas::follow_emergence(train_ids, valid_ids,
                                       {.layers = layers,
                                        .width = width,
                                        .steps = lab.by_scale<int64_t>(4, 1024, 8192),
                                        .samples = lab.by_scale(2, 10, 10),
                                        .valid_batches = lab.by_scale(1, 8, 32),
                                        .redrawn = lab.by_scale(2, 8, 16)},
                                       seed);
      });
      if (seed == lab.seeds()[0])
        for (const auto& m : run.moments)
          table.row(name, m.step, m.loss, m.accuracy, m.alpha_0, m.alpha_0_sd, m.width, m.width_sd,
                    m.e, m.shuffled, m.normal, m.tails.kurtosis, m.tails.norm_spread, m.tails.hill,
                    m.tails.spectral, m.theta_100, m.theta_200, m.strange);
      const auto with_accuracy = [&](const std::function<double(const Moment&)>& of) {
        std::vector<double> x, y;
        for (const auto& m : run.moments) x.push_back(of(m)), y.push_back(m.accuracy);
        return std::abs(math::spearman(x, y));
      };
      const std::function<double(const Moment&)> statistics[] = {
          [](const Moment& m) { return m.e; },
          [](const Moment& m) { return m.shuffled; },
          [](const Moment& m) { return m.normal; },
          [](const Moment& m) { return m.tails.kurtosis; },
          [](const Moment& m) { return m.tails.norm_spread; },
          [](const Moment& m) { return m.tails.hill; },
          [](const Moment& m) { return m.tails.spectral; },
          [](const Moment& m) { return m.loss; }};
      for (size_t k = 0; k < rho.size(); ++k) rho[k].values.push_back(with_accuracy(statistics[k]));
      const double sd = std::max(1e-12, study::Figure(run.redrawn).spread());
      end.values.push_back(std::abs(run.moments.back().e) / sd);
      at_start = std::max(at_start, std::abs(run.moments.front().e));
    }
    summary.row(name, rho[0], rho[1], rho[2], rho[3], rho[4], rho[5], rho[6], rho[7], end);
    beats &= rho[0].mean() > rho[1].mean() && rho[0].mean() > rho[3].mean();
    deviations = std::min(deviations, end.mean());
    if (lab.smoke()) break;
  }
  lab.claim("E adds information: its rank correlation beats kurtosis and shuffled weights")
      .paper("E tracks benchmarks")
      .holds(beats);
  lab.claim("E at step 0").paper("0").measured(at_start).at_most(0);
  lab.claim("|E| at the end, in deviations of E over re-initialisations")
      .measured(deviations)
      .at_least(3);
}

void run(study::Lab& lab) {
  planted(lab);
  const auto same = lab.part("mechanics", [&] { return mechanics(lab.smoke()); });
  lab.claim("tau against slow loops, largest difference").measured(same[0]).at_most(1e-9);
  lab.claim("order of nodes and threads change nothing, bitwise").holds(same[1] == 1);
  const auto fast = lab.part("speed", [&] { return speed(lab); });
  lab.note(fmt::format("Whole graph of {:.0f} MB of weights, {} nodes.", fast[3], fast[4]));
  lab.claim("whole graph of a model of the 160 M class, seconds").measured(fast[0]).at_most(20);
  lab.claim("its memory over the model's").measured(fast[1]).at_most(2);
  lab.claim("sampled graph, seconds").measured(fast[2]).at_most(1);
  trained(lab);
  lab.note(
      "alpha_0, width and E of the published algorithm to 1e-6 on fixed edge lists: "
      "tests/atlas/multifractal_test.cpp");
  lab.not_shown("correlation with LAMBADA, PIQA and ARC over Pythia's checkpoints",
                "their weights do not ship; the numbers depend on theta against the scale of the "
                "weights (columns for 100 and 200)");
}

const auto registered = study::add({.slug = "neuromfa"}, run);
}  // namespace
