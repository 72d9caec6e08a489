#include <cmath>
#include <numeric>

#include "cajal/atlas/multifractal.h"
#include "cajal/atlas/text.h"
#include "cajal/core/timing.h"
#include "cajal/data/catalogue.h"
#include "cajal/math/ranks.h"
#include "cajal/models/lm/checkpoint.h"
#include "cajal/models/lm/training.h"
#include "cajal/study/study.h"
#include "cajal/train/trainer.h"

namespace {
using namespace cajal;
using torch::Tensor;

/// Works when 1 to 3, on graphs whose spectrum is known.
void planted(study::Lab& lab) {
  const int64_t edges = lab.by_scale(2000, 10'000, 100'000), nodes = lab.by_scale(5, 20, 50);
  auto table = lab.table("planted graphs", {"dimensions", "alpha_0", "width", "expected width",
                                            "largest f", "worst turn of alpha"});
  const auto row = [&](const std::vector<double>& dimensions, double c, double q_max,
                       double width) {
    const atlas::MultifractalOptions wide{
        .theta = 1e6, .q_max = q_max, .q_steps = static_cast<int64_t>(10 * q_max)};
    const auto s = atlas::multifractal(atlas::planted_graph(dimensions, nodes, edges, c, 1), wide);
    double turn = 0;
    for (size_t i = 1; i < s.alpha.size(); ++i) turn = std::max(turn, s.alpha[i] - s.alpha[i - 1]);
    table.row(fmt::format("{}", fmt::join(dimensions, ", ")), s.alpha_0, s.width, width,
              *std::max_element(s.f.begin(), s.f.end()), turn);
    return s;
  };
  double alpha = 0, width = 0, top = 0, turn = 0, tau_0 = 0;
  for (const double d : {1.0, 1.5, 2.0}) {
    const auto s = row({d}, 100, 3, 0);
    if (d != 1.5) continue;  // the dossier's case; whole radii bend the others more than the bar
    alpha = std::max(alpha, std::abs(s.alpha_0 - d)), width = std::max(width, s.width);
    top = std::max(top, std::abs(*std::max_element(s.f.begin(), s.f.end())));
    for (size_t i = 1; i < s.alpha.size(); ++i) turn = std::max(turn, s.alpha[i] - s.alpha[i - 1]);
    tau_0 = std::max(tau_0, std::abs(s.tau[s.tau.size() / 2]));
  }
  const auto two = row({1, 2}, 1000, 10, 1);
  lab.claim("one dimension D = 1.5: |alpha_0 - D|").paper("").measured(alpha).at_most(0.05);
  lab.claim("one dimension: width").paper("").measured(width).at_most(0.05);
  lab.claim("two dimensions 1 apart: width at |q| = 10")
      .paper("")
      .measured(two.width)
      .between(0.85, 1.15);
  lab.claim("tau(0)").paper("0").measured(tau_0).at_most(0);
  lab.claim("planted: largest f, and rise of alpha")
      .paper("0, falling")
      .measured(std::max(top, turn))
      .at_most(1e-3);

  auto graph = atlas::planted_graph({1.2, 1.7}, 400, 300, 300, 3);
  ThreadPool one(1), many(3);
  const atlas::MultifractalOptions options{.theta = 1000};
  const auto a = atlas::multifractal(atlas::count_mass(graph, options), options, one);
  std::reverse(graph.begin(), graph.end());
  const auto b = atlas::multifractal(atlas::count_mass(graph, options), options, many);
  lab.claim("order of nodes and threads change nothing, bitwise")
      .paper("")
      .holds(a.tau == b.tau && a.alpha_0 == b.alpha_0);
  double worst = 0;  // the definition, by loops
  const auto counts = atlas::count_mass(graph, options);
  std::vector<double> x;
  for (const double r : counts.radii) x.push_back(std::log(r / counts.radii.back()));
  for (size_t q = 0; q < a.q.size(); ++q) {
    std::vector<double> y;
    for (const double r : counts.radii) {
      double z = 0;
      for (const auto& node : graph) {
        double n = 1, all = 1;
        for (const double d : node) {
          const bool kept = d > options.least && d <= options.theta;
          all += kept, n += kept && std::nearbyint(d) <= r;
        }
        if (all > 11) z += std::pow(n / all, a.q[q]);
      }
      y.push_back(std::log(z));
    }
    worst = std::max(worst, std::abs(math::fit_line(x, y).slope - a.tau[q]));
    if (lab.smoke() && q % 10) break;
  }
  lab.claim("tau against slow loops, largest difference").paper("").measured(worst).at_most(1e-9);
}

/// Works when 4: a model of the size of Pythia-160M, whole.
void speed(study::Lab& lab) {
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
  lab.note(fmt::format("Whole graph of {:.0f} MB of weights, {} nodes.",
                       static_cast<double>(bytes) / 1e6, whole.nodes));
  lab.claim("whole graph of a model of the 160 M class, seconds")
      .paper("")
      .measured(seconds)
      .at_most(20);
  lab.claim("its memory over the model's").paper("").measured(memory).at_most(2);
  lab.claim("sampled graph, seconds").paper("").measured(sampled).at_most(1);
}

/// A checkpoint while training.
struct Moment {
  int64_t step;
  std::vector<Tensor> weights;
};

class Training {
 public:
  Training(study::Lab& lab, int64_t layers, int64_t width, const Tensor& train, const Tensor& valid)
      : lab_(lab), layers_(layers), width_(width), train_(train), valid_(valid) {}

  std::string name() const { return fmt::format("{} x {}", layers_, width_); }

  /// Returns {rho of E, of shuffled E, of kurtosis with accuracy; |E| at the end in deviations}.
  std::vector<double> run(uint64_t seed, study::TableWriter* table) {
    const Json json = {{"model_type", "gpt_neox"},        {"hidden_size", width_},
                       {"num_hidden_layers", layers_},    {"num_attention_heads", 4},
                       {"intermediate_size", 4 * width_}, {"vocab_size", 256},
                       {"max_position_embeddings", 64}};
    auto model = lm::initialise(lm::config_from_json(json, "neuromfa"), seed + 1);
    std::vector<Moment> moments;
    const auto keep = [&](int64_t step) {
      Moment m{step, {}};
      for (const auto& p : model->parameters()) m.weights.push_back(p.detach().clone());
      moments.push_back(std::move(m));
    };
    keep(0);
    const int64_t steps = lab_.by_scale<int64_t>(4, 512, 8192);
    lm::TrainingLoss loss(model);
    auto task = train::task_of(
        *model, [&](const train::Slice& slice) { return batch(train_, seed, slice.step); },
        [&](const train::Batch& b) { return loss(b[0], b[1]); });
    int64_t done = 0;
    task.evaluate = [&] {
      ++done;
      const bool power_of_two = (done & (done - 1)) == 0;
      if (moments.back().step != steps && (power_of_two || done == steps)) keep(done);
      return Json{{"loss", 0}};
    };
    train::Options options;
    options.steps = steps, options.learning_rate = 2e-3, options.warmup_steps = steps / 20,
    options.evaluate_every = 1, options.keep = train::Keep::last;
    train::run(task, options);

    const torch::NoGradGuard no_grad;
    const auto put = [&](const std::vector<Tensor>& weights) {
      size_t i = 0;
      for (auto& p : model->parameters()) p.copy_(weights[i++]);
    };
    const auto spectrum = [&](double theta) {
      return atlas::mean_spectrum(model, lab_.by_scale(2, 10, 10), {.theta = theta},
                                  atlas::SpectrumFilter::none,
                                  {.nodes = std::min<int64_t>(32, width_ / 2)});
    };
    std::vector<double> accuracy, es, shuffled_es, kurtosis;
    std::vector<std::array<double, 3>> by_theta;
    atlas::SpectrumMean start, shuffled_start;
    std::vector<double> redrawn;
    std::array<atlas::SpectrumMean, 3> theta_start;
    constexpr double kThetas[] = {100, 150, 200};
    for (const auto& m : moments) {
      put(m.weights);
      double nats = 0, right = 0;
      const int64_t batches = lab_.by_scale(1, 8, 32);
      for (int64_t k = 0; k < batches; ++k) {
        const auto b = batch(valid_, 99, k);
        const auto logits = model->forward(b[0]);
        nats += loss(b[0], b[1]).item<double>() / static_cast<double>(batches);
        right += logits.argmax(-1).eq(b[1]).to(torch::kDouble).mean().item<double>() /
                 static_cast<double>(batches);
      }
      const auto now = spectrum(150);
      const auto tails = atlas::weight_tails(atlas::edge_layers(model));
      std::array<double, 3> thetas;
      for (size_t t = 0; t < 3; ++t) {
        const auto s = spectrum(kThetas[t]);
        if (m.step == 0) theta_start[t] = s;
        thetas[t] = atlas::emergence(theta_start[t], s);
      }
      torch::manual_seed(static_cast<int64_t>(seed));
      for (auto& p : model->parameters())
        if (p.dim() == 2)
          p.copy_(p.flatten().index_select(0, torch::randperm(p.numel())).reshape(p.sizes()));
      const auto shuffled = spectrum(150);
      if (m.step == 0) start = now, shuffled_start = shuffled;
      accuracy.push_back(right), kurtosis.push_back(tails.kurtosis);
      es.push_back(atlas::emergence(start, now)),
          shuffled_es.push_back(atlas::emergence(shuffled_start, shuffled));
      if (table)
        table->row(name(), m.step, nats, right, now.alpha_0, now.alpha_0_sd, now.width,
                   now.width_sd, es.back(), shuffled_es.back(), tails.kurtosis, tails.hill,
                   tails.spectral, thetas[0], thetas[2], now.rising + now.turning);
    }
    for (int64_t k = 0; k < lab_.by_scale(2, 8, 16); ++k) {  // other draws of the start
      auto other = lm::initialise(model->config, 1000 * (seed + 1) + static_cast<uint64_t>(k));
      redrawn.push_back(atlas::emergence(
          start,
          atlas::mean_spectrum(other, lab_.by_scale(2, 10, 10), {}, atlas::SpectrumFilter::none,
                               {.nodes = std::min<int64_t>(32, width_ / 2)})));
    }
    const double sd = std::max(1e-12, study::Figure(redrawn).spread());
    return {std::abs(math::spearman(es, accuracy)), std::abs(math::spearman(shuffled_es, accuracy)),
            std::abs(math::spearman(kurtosis, accuracy)), std::abs(es.back()) / sd,
            std::abs(es.front())};
  }

 private:
  static train::Batch batch(const Tensor& ids, uint64_t seed, int64_t step) {
    Random random(seed, static_cast<uint64_t>(step));
    std::vector<Tensor> windows;
    for (int k = 0; k < 16; ++k) {
      const auto begin =
          static_cast<int64_t>(random.below(static_cast<uint64_t>(ids.size(0) - 65)));
      windows.push_back(ids.slice(0, begin, begin + 65));
    }
    const auto all = torch::stack(windows);
    return {all.slice(1, 0, 64), all.slice(1, 1)};
  }

  study::Lab& lab_;
  int64_t layers_, width_;
  const Tensor &train_, &valid_;
};

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
  auto table = lab.table("while training (byte-level GPT-NeoX on the classics, seed 0)",
                         {"model", "step", "valid loss", "accuracy", "alpha_0", "sd", "width",
                          "sd of width", "E", "E shuffled", "kurtosis", "Hill", "spectral",
                          "E, theta 100", "E, theta 200", "samples not a spectrum"});
  auto summary = lab.table(
      "rank correlation with valid accuracy over steps",
      {"model", "E", "E of shuffled weights", "kurtosis", "final |E| in sd of re-initialisations"});
  bool beats = true;
  double deviations = 1e300, at_start = 0;
  for (const auto& [layers, width] : {std::pair<int64_t, int64_t>(2, 64), {4, 128}}) {
    Training training(lab, layers, width, train_ids, valid_ids);
    const auto f = lab.over_seeds([&](uint64_t seed) {
      return training.run(seed, seed == lab.seeds()[0] ? &table : nullptr);
    });
    summary.row(training.name(), f[0], f[1], f[2], f[3]);
    beats &= f[0].mean() > f[1].mean() && f[0].mean() > f[2].mean();
    deviations = std::min(deviations, f[3].mean()), at_start = std::max(at_start, f[4].mean());
    if (lab.smoke()) break;
  }
  lab.claim("E adds information: its rank correlation beats kurtosis and shuffled weights")
      .paper("E tracks benchmarks")
      .holds(beats);
  lab.claim("E at step 0").paper("0").measured(at_start).at_most(0);
  lab.claim("|E| at the end, in deviations of E over re-initialisations")
      .paper("")
      .measured(deviations)
      .at_least(3);
}

void run(study::Lab& lab) {
  planted(lab);
  speed(lab);
  trained(lab);
  lab.not_shown("correlation with LAMBADA, PIQA and ARC over Pythia's checkpoints",
                "their weights do not ship; the numbers depend on theta against the scale of the "
                "weights (columns for 100 and 200)");
}

const auto registered = study::add({.slug = "neuromfa"}, run);
}  // namespace
