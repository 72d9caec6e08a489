#include <unistd.h>

#include <cmath>
#include <map>

#include "cajal/atlas/text.h"
#include "cajal/core/timing.h"
#include "cajal/data/polarity.h"
#include "cajal/engine/experts.h"
#include "cajal/layers/ffn/experts.h"
#include "cajal/math/assignment.h"
#include "cajal/math/clusters.h"
#include "cajal/models/lm/checkpoint.h"
#include "cajal/models/lm/generate.h"
#include "cajal/study/decoding.h"
#include "cajal/study/rivals.h"
#include "cajal/surgery/moefy.h"
#include "cajal/surgery/selection.h"
#include "cajal/surgery/split.h"
#include "cajal/surgery/synthetic.h"
#include "cajal/surgery/write.h"
#include "cajal/train/sentences.h"
#include "cajal/train/small_language.h"

namespace {
using namespace cajal;
using study::Figure;
using surgery::ExpertSplit;

/// Balanced assignment by auction over the exact one: 256 points to 8 centres.
double auction_over_exact() {
  const auto points = torch::randn({256, 32});
  const std::span<const float> numbers(points.data_ptr<float>(), 256 * 32);
  const auto centre = math::cluster(numbers, 32, {.clusters = 8}).centre;
  const auto cost = torch::cdist(points, torch::tensor(centre).view({8, 32})).square().contiguous();
  const auto places = cost.repeat_interleave(32, 1).contiguous();
  const auto auction = math::assign_balanced({cost.data_ptr<float>(), 256 * 8}, 256, 8);
  const auto exact = math::assign({places.data_ptr<float>(), 256 * 256}, 256, 256);
  double ours = 0, least = 0;
  for (int64_t i = 0; i < 256; ++i) {
    ours += cost[i][auction[static_cast<size_t>(i)]].item<double>();
    least += places[i][exact[static_cast<size_t>(i)]].item<double>();
  }
  return ours / least;
}

/// The generator with a known answer: adjusted Rand index, and captured mass at ratio 0.1.
std::vector<double> found_again(ExpertSplit split, double noise, int64_t each, int64_t tokens,
                                int64_t epochs, uint64_t seed) {
  const int64_t topics = 32, width = 64;
  const auto s = surgery::synthetic_experts(topics, each, width, tokens, noise);
  const auto order = surgery::expert_order(split, s.key, s.activations, topics, seed).order;
  std::vector<int64_t> label(order.size());
  for (size_t i = 0; i < order.size(); ++i)
    label[static_cast<size_t>(order[i])] = static_cast<int64_t>(i) / each;
  const std::vector<int64_t> truth(s.topic.data_ptr<int64_t>(),
                                   s.topic.data_ptr<int64_t>() + s.topic.numel());
  const auto index = torch::tensor(std::vector<int64_t>(order.begin(), order.end()));
  const auto gains = experts::gains(s.activations.index_select(1, index), topics, false);
  const auto router =
      surgery::train_router(RouterKind::mlp, experts::centres(s.key.index_select(0, index), topics),
                            s.inputs, gains, (topics + 9) / 10, {.epochs = epochs, .seed = seed});
  return {math::adjusted_rand_index(label, truth), router.captured};
}

void on_generator(study::Lab& lab) {
  auto table = lab.table("generated experts, found again",
                         {"noise of a key", "split", "adjusted Rand index", "captured at 0.1"});
  for (const bool by_coordinate : {false, true})
    for (const auto split : {ExpertSplit::kmeans, ExpertSplit::coactivation}) {
      const auto of = fmt::format("generator, {}{}", to_name(split),
                                  by_coordinate ? ", 0.3 on every coordinate" : "");
      const auto f = lab.over_seeds(of, [&](uint64_t seed) {
        return found_again(split, by_coordinate ? 0.3 * 8 : 0.3, lab.by_scale(8, 32, 32),
                           lab.by_scale(512, 8192, 16384), lab.by_scale(1, 30, 30), seed);
      });
      table.row(by_coordinate ? "0.3 a coordinate" : "length 0.3", to_name(split), f[0], f[1]);
      lab.claim(of + ": adjusted Rand index").measured(f[0]).at_least(0.95);
      lab.claim(of + ": captured mass at ratio 0.1").measured(f[1]).at_least(0.95);
    }
  lab.claim("auction: cost over that of the exact assignment, 256 x 8")
      .paper("up to 1.033")
      .measured(lab.part("auction", auction_over_exact))
      .at_most(1.02);
}

constexpr double kRatios[] = {0.1, 0.2, 0.25, 0.5};
const std::pair<ExpertSplit, const char*> kForms[] = {
    {ExpertSplit::kmeans, "oracle"},       {ExpertSplit::kmeans, "mlp"},
    {ExpertSplit::kmeans, "similarity"},   {ExpertSplit::kmeans, "random"},
    {ExpertSplit::coactivation, "oracle"}, {ExpertSplit::coactivation, "mlp"},
    {ExpertSplit::random, "oracle"},       {ExpertSplit::random, "mlp"}};

/// One seed of the classifier.
struct Sentences {
  double dense = 0, narrow = 0;           // accuracies; narrow: of the active width, from scratch
  std::vector<std::vector<double>> kept;  // [form][ratio] accuracy over dense, 0 = not asked for
  std::vector<double> fired;              // of each layer
  bool ordered = true;                    // oracle >= mlp >= similarity > random in every layer
};
CAJAL_OPTIONS(Sentences, dense, narrow, kept, fired, ordered)

class OnSentences {
 public:
  explicit OnSentences(study::Lab& lab) : lab_(lab) {
    preset_.steps = lab.by_scale<int64_t>(2, 150, 1500);
    if (lab.smoke()) {
      preset_.width = 16, preset_.neurons = 64, preset_.vocabulary = 16;
      texts_.train = texts_.valid =
          texts_.test = {{"a good one", "a bad one", "good", "bad"}, {1, 0, 1, 0}};
    } else {
      texts_ = data::read_sentence_polarity();
    }
  }

  void run() {
    std::vector<Sentences> runs;
    for (const auto seed : lab_.seeds())
      runs.push_back(lab_.part("sentences", seed, [&] { return measure(seed); }));
    const auto figure = [&](const auto& of) {
      Figure f;
      for (const auto& r : runs) f.values.push_back(of(r));
      return f;
    };
    const auto dense = figure([](const auto& r) { return r.dense; });
    const auto narrow = figure([](const auto& r) { return r.narrow / r.dense; });
    auto table = lab_.table(fmt::format("sentence-polarity, accuracy over dense, {} layers, {} "
                                        "neurons",
                                        preset_.layers, preset_.neurons),
                            {"split", "router", "0.1", "0.2", "0.25", "0.5"});
    table.row("dense", "accuracy itself", dense, dense, dense, dense);
    table.row("dense of the active width (0.25), from scratch", "", "", "", narrow, "");
    std::vector<Figure> quarter;
    for (size_t k = 0; k < std::size(kForms); ++k) {
      std::vector<study::Cell> row = {to_name(kForms[k].first), kForms[k].second};
      for (size_t r = 0; r < std::size(kRatios); ++r) {
        const auto kept = figure([&](const auto& run) { return run.kept[k][r]; });
        row.push_back(kept.mean() > 0 ? study::Cell(kept) : "");
        if (kRatios[r] == 0.25) quarter.push_back(kept);
      }
      table.add(row);
    }
    auto shares = lab_.table("share of neurons that fire, sentences", {"layer", "fires"});
    for (size_t l = 0; l < runs[0].fired.size(); ++l)
      shares.row(static_cast<int64_t>(l), figure([&](const auto& r) { return r.fired[l]; }));
    lab_.claim("sentences: k-means and MLP router keep this share of accuracy at 25 %")
        .paper("over 95 % at 10 to 30 %")
        .measured(quarter[1])
        .in_percent()
        .at_least(0.95);
    lab_.claim("sentences: oracle at 25 %").measured(quarter[0]).in_percent().at_least(0.98);
    lab_.claim("sentences: oracle >= mlp >= similarity > random in captured mass, every layer")
        .holds(std::all_of(runs.begin(), runs.end(), [](const auto& r) { return r.ordered; }));
    lab_.claim("sentences: at 25 % no worse than dense of the active width, ratio of accuracies")
        .measured(quarter[1].mean() / narrow.mean())
        .at_least(1);
  }

 private:
  Sentences measure(uint64_t seed) {
    Sentences out;
    out.kept.assign(std::size(kForms), std::vector<double>(std::size(kRatios)));
    train::SentenceClassifier dense(preset_, texts_.train, seed);
    dense.fit();
    out.dense = dense.accuracy(texts_.test);
    auto options = preset_;
    options.neurons /= 4;
    train::SentenceClassifier narrow(options, texts_.train, seed);
    narrow.fit();
    out.narrow = narrow.accuracy(texts_.test);
    const auto text = lab_.smoke() ? std::vector<int32_t>(64, 2) : dense.running_text();
    const auto blocks = dense.model->blocks;
    const auto cut = [&](surgery::MoefyOptions o) {
      dense.model->blocks = blocks, dense.model->layout = {};
      o.training.epochs = lab_.by_scale<int64_t>(1, 15, 30), o.seed = seed;
      o.tokens = lab_.by_scale<int64_t>(64, 16384, 65536);
      return surgery::moefy(dense.model, text, o);
    };
    const auto alike = cut({.router = RouterKind::similarity});
    for (const auto split : {ExpertSplit::kmeans, ExpertSplit::coactivation, ExpertSplit::random}) {
      const auto reports = cut({.split = split});
      if (split == ExpertSplit::kmeans)
        // Random experts have their share of all gains, and the best of them more than that.
        for (size_t l = 0; l < reports.size(); ++l) {
          out.fired.push_back(reports[l].fired);
          out.ordered = out.ordered && reports[l].captured >= alike[l].captured &&
                        reports[l].captured <= 1 && alike[l].mass > 0.25;
        }
      const surgery::Selection selection(dense.model);
      for (size_t k = 0; k < std::size(kForms); ++k)
        for (size_t r = 0; r < std::size(kRatios); ++r)
          if (kForms[k].first == split && (split == ExpertSplit::kmeans || kRatios[r] == 0.25))
            out.kept[k][r] = accuracy(dense, selection, kForms[k].second, kRatios[r]) / out.dense;
    }
    return out;
  }

  double accuracy(train::SentenceClassifier& of, const surgery::Selection& selection,
                  const std::string& router, double ratio) {
    lm::Hooks hooks;
    if (router == "random")
      selection.use_random(of.model, ratio, hooks);
    else
      selection.use(of.model, from_name<RouterKind>(router, "router"), ratio);
    return of.accuracy(texts_.test, hooks.empty() ? nullptr : &hooks);
  }

  study::Lab& lab_;
  data::SentencePolarity texts_;
  train::SentenceOptions preset_;
};

/// One way to choose experts and what it keeps.
struct Kept {
  RouterKind router;
  double ratio = 0, bits = 0;
};
CAJAL_OPTIONS(Kept, router, ratio, bits)

/// One split of a trained model behind all routers, without training after the cut.
struct SplitFigures {
  double captured = 0, mass = 0;  // by the mlp router at 0.2, mean of the layers
  double random = 0;              // bits with random experts at 0.25; 0: not asked for
  std::vector<Kept> kept;
};
CAJAL_OPTIONS(SplitFigures, captured, mass, random, kept)

/// Trained language models, cut as they are.
class OnModels {
 public:
  explicit OnModels(study::Lab& lab)
      : lab_(lab),
        table_(lab.table(
            "trained language models, no training after the cut",
            {"model", "split", "router", "ratio", "captured", "mass", "bits/byte", "change"})) {}

  void run(study::Subject& s) {
    dense_ = lab_.part(s.name + ", dense", [&] { return s.bits_per_byte(s.model); });
    row(s, "dense", "", 1, dense_);
    std::map<ExpertSplit, double> mass;
    for (const auto split : {ExpertSplit::kmeans, ExpertSplit::coactivation, ExpertSplit::random}) {
      const auto f = lab_.part(fmt::format("{}, {}", s.name, to_name(split)),
                               [&] { return measure(s, split); });
      mass[split] = f.mass;
      for (const auto& k : f.kept) {
        const bool known = k.router == RouterKind::mlp && k.ratio == 0.2;
        table_.row(s.name, to_name(split), to_name(k.router), k.ratio,
                   known ? study::Cell(f.captured) : "", known ? study::Cell(f.mass) : "", k.bits,
                   k.bits / dense_ - 1);
        if (split == ExpertSplit::kmeans && k.ratio == 0.25 && k.router == RouterKind::mlp)
          kept_ = k.bits;
      }
      if (f.random > 0) row(s, to_name(split), "random", 0.25, f.random);
    }
    if (!s.config().gated)
      lab_.claim(s.name + ": share of all activations captured at 0.2, k-means less random split")
          .measured(mass[ExpertSplit::kmeans] - mass[ExpertSplit::random])
          .at_least(0.05);
    rivals(s);
    if (!s.config().gated) quarter(s);
  }

 private:
  void row(const study::Subject& s, const std::string& split, const std::string& router,
           double active, double bits) {
    table_.row(s.name, split, router, active, "", "", bits, bits / dense_ - 1);
  }

  SplitFigures measure(study::Subject& s, ExpertSplit split) {
    auto form = s.copy();
    const auto reports = surgery::moefy(form, s.calibration,
                                        {.experts = s.config().neurons / (lab_.smoke() ? 16 : 32),
                                         .ratio = 0.2,
                                         .split = split,
                                         .training = {.epochs = lab_.by_scale<int64_t>(1, 15, 30)},
                                         .tokens = lab_.by_scale<int64_t>(512, 16384, 131072)});
    SplitFigures out;
    for (const auto& r : reports) {
      out.captured += r.captured / static_cast<double>(reports.size());
      out.mass += r.mass / static_cast<double>(reports.size());
    }
    const surgery::Selection selection(form);
    const auto measure = [&](RouterKind router, double ratio) {
      selection.use(form, router, ratio);
      out.kept.push_back({router, ratio, s.bits_per_byte(form)});
    };
    measure(RouterKind::oracle, 0.25), measure(RouterKind::mlp, 0.25);
    if (split != ExpertSplit::kmeans) return out;
    measure(RouterKind::similarity, 0.25), measure(RouterKind::mlp, 0.2);
    for (const double ratio : {0.1, 0.5})
      measure(RouterKind::oracle, ratio), measure(RouterKind::mlp, ratio);
    lm::Hooks hooks;
    selection.use_random(form, 0.25, hooks);
    out.random = s.bits_per_byte(form, &hooks);
    return out;
  }

  /// What else leaves three quarters of the neurons out.
  void rivals(study::Subject& s) {
    const std::string pruned = "dense of the active width, pruned";
    const double cut = lab_.part(s.name + ", " + pruned, [&] {
      auto form = s.copy();
      prune(s, form);
      return s.bits_per_byte(form);
    });
    row(s, pruned, "", 0.25, cut);
    lab_.claim(s.name + ": at 25 % no more bits than pruned to the active width, ratio")
        .measured(kept_ / cut)
        .at_most(1);
    lab_.claim(s.name + ": quality kept at 25 %, bits of dense over ours")
        .paper("over 95 %")
        .measured(dense_ / kept_)
        .in_percent()
        .at_least(0.95);
    for (const auto rule : {surgery::SparseRule::teal, surgery::SparseRule::cats}) {
      if (rule == surgery::SparseRule::cats && !s.config().gated) continue;
      const std::string method =
          rule == surgery::SparseRule::teal ? "TEAL, inputs of all matrices" : "CATS";
      for (const double share : {0.5, 0.75}) {
        const auto label = fmt::format("{}, {:.0f} % left out", method, 100 * share);
        const auto r =
            lab_.part(s.name + ", " + label, [&] { return study::with_rule(s, rule, share); });
        row(s, label, "", 1 - r.left_out, r.bits_per_byte);
      }
    }
    if (s.config().gated) return;
    const auto predicted = lab_.part(s.name + ", predictors", [&] {
      return study::with_predictors(s,
                                    {.epochs = lab_.by_scale<int64_t>(1, 6, 20),
                                     .tokens = lab_.by_scale<int64_t>(512, 16384, 65536)},
                                    0.25);
    });
    for (size_t k = 0; k < 2; ++k)
      row(s, k == 0 ? "Deja Vu: neurons predicted" : "PowerInfer: 10 % hot, others predicted", "",
          1 - predicted[k].left_out, predicted[k].bits_per_byte);
  }

  static void prune(study::Subject& s, lm::Transformer& form) {
    surgery::split(form,
                   surgery::make_plan("heavy=bf16,rest=drop", s.census,
                                      {.score = surgery::Score::energy, .ratio = 0.25}),
                   s.census);
  }

  struct Way {
    std::string name;
    surgery::MoefyOptions cut;
  };
  /// Ways to use a quarter of the neurons; decided on the valid text, the last is the best of them.
  std::vector<Way> ways(const study::Subject& s) const {
    const int64_t neurons = s.config().neurons, tokens = lab_.by_scale<int64_t>(512, 16384, 65536);
    const surgery::RouterOptions training{.epochs = lab_.by_scale<int64_t>(1, 15, 30)};
    const auto way = [&](ExpertSplit split, int64_t size, surgery::LayerShares shares) {
      return surgery::MoefyOptions{.experts = neurons / size,
                                   .shares = shares,
                                   .split = split,
                                   .training = training,
                                   .tokens = tokens,
                                   .compensate = size == 8 && s.config().ffn_bias};
    };
    const auto even = surgery::LayerShares::even, by_gains = surgery::LayerShares::by_gains;
    return {{"random, experts of 32", way(ExpertSplit::random, 32, even)},
            {"k-means, experts of 32", way(ExpertSplit::kmeans, 32, even)},
            {"activity, experts of 32", way(ExpertSplit::activity, 32, even)},
            {"activity, experts of 8, compensated", way(ExpertSplit::activity, 8, even)},
            {"activity, experts of 8, compensated, layers by gains",
             way(ExpertSplit::activity, 8, by_gains)}};
  }

  /// Bits a byte on valid and test text at a quarter of the neurons, and the speed of decoding.
  void quarter(study::Subject& s) {
    auto table =
        lab_.table(s.name + " at a quarter of its neurons (choices on valid, test read once)",
                   {"form", "valid, oracle", "valid, mlp", "test, oracle", "test, mlp", "tokens/s",
                    "times dense"});
    const auto plain = lab_.part(s.name + ", test, dense and pruned", [&] {
      auto form = s.copy();
      prune(s, form);
      return std::vector<double>{s.bits_per_byte(s.model), s.bits_per_byte(form),
                                 test_bits(s, s.model), test_bits(s, form)};
    });
    for (size_t k = 0; k < 2; ++k)
      table.row(k == 0 ? "dense" : "dense of the active width, pruned (energy, mean kept)", "",
                plain[k], "", plain[k + 2], "", "");
    for (const auto& way : ways(s)) {
      const auto bits = lab_.part(s.name + ", a quarter, " + way.name, [&] {
        auto form = s.copy();
        surgery::moefy(form, s.calibration, way.cut);
        const surgery::Selection selection(form);
        std::vector<double> out;
        for (const auto router : {RouterKind::oracle, RouterKind::mlp}) {
          selection.use(form, router);
          out.push_back(s.bits_per_byte(form)), out.push_back(test_bits(s, form));
        }
        return out;
      });
      const auto speed =
          lab_.part(s.name + ", decoding, " + way.name, [&] { return decode(s, way.cut); });
      table.row(way.name, bits[0], bits[2], bits[1], bits[3], speed.tokens_per_second,
                speed.times_first);
    }
  }

  double test_bits(study::Subject& s, lm::Transformer& form) {
    if (lab_.smoke()) return s.bits_per_byte(form);
    const auto text = atlas::read_text(lm::find_model(s.name), s.config().vocabulary,
                                       "classics/test", lab_.by_scale<int64_t>(0, 16384, 131072));
    const auto bytes = std::ssize(atlas::words(text, 1, std::ssize(text.ids)));
    return lm::evaluate(form, text.ids, bytes, s.config().context, 4).bits_per_byte();
  }

  study::Decoding decode(study::Subject& s, surgery::MoefyOptions cut) {
    if (lab_.smoke()) return {};
    const auto folder = std::filesystem::temp_directory_path() /
                        fmt::format("cajal-moefication-{}-{}", s.name, getpid());
    auto form = s.copy();
    cut.training.epochs = 1, cut.tokens = 4096;  // what the router has learned changes no time
    surgery::moefy(form, s.calibration, cut);
    surgery::write(form, lm::find_model(s.name), folder);
    const auto times =
        study::time_decoding({lm::find_model(s.name), folder}, std::span(s.valid).first(96), 21);
    std::filesystem::remove_all(folder);
    return times[1];
  }

  study::Lab& lab_;
  study::TableWriter table_;
  double dense_ = 0, kept_ = 0;
};

/// A model of the active width, trained from scratch as long as the one that is cut.
void against_small(study::Lab& lab) {
  if (!lab.smoke() && !lab.has("classics", "language models from scratch")) return;
  train::SmallLanguageOptions preset{.steps = lab.by_scale<int64_t>(2, 150, 3000)};
  if (lab.smoke()) preset.width = 16, preset.neurons = 64, preset.context = 16;
  const auto train = lab.smoke() ? (torch::rand({4096}) * 255).to(torch::kByte)
                                 : train::text_bytes("classics/train", 50'000'000);
  const auto valid = lab.smoke() ? train : train::text_bytes("classics/valid", 65'536);
  const auto f = lab.over_seeds("nano", [&](uint64_t seed) -> std::vector<double> {
    train::SmallLanguageModel dense(preset, seed, torch::kCPU);
    dense.fit(train);
    auto narrow = preset;
    narrow.neurons /= 4;
    train::SmallLanguageModel small(narrow, seed, torch::kCPU);
    small.fit(train);
    const double full = dense.bits_per_byte(valid), less = small.bits_per_byte(valid);
    std::vector<int32_t> ids(static_cast<size_t>(lab.by_scale<int64_t>(512, 16384, 65536)));
    for (size_t i = 0; i < ids.size(); ++i)
      ids[i] = train.data_ptr<uint8_t>()[i % static_cast<size_t>(train.numel())];
    surgery::moefy(dense.model, ids,
                   {.training = {.epochs = lab.by_scale<int64_t>(1, 15, 30)}, .seed = seed});
    const surgery::Selection selection(dense.model);
    const double mlp = dense.bits_per_byte(valid);
    selection.use(dense.model, RouterKind::oracle, 0.25);
    return {full, less, dense.bits_per_byte(valid), mlp};
  });
  auto table = lab.table(fmt::format("bytes of classics, {} layers, width {}, {} neurons, {} steps",
                                     preset.layers, preset.width, preset.neurons, preset.steps),
                         {"form", "bits/byte"});
  table.row("dense", f[0]);
  table.row("dense of the active width, from scratch", f[1]);
  table.row("k-means, oracle, 25 %", f[2]);
  table.row("k-means, mlp, 25 %", f[3]);
  lab.claim("nano: cut at 25 % no more bits than dense of the active width, ratio")
      .measured(f[3].mean() / f[1].mean())
      .at_most(1);
}

struct LayerTime {
  double dense = 0, experts = 0, ratio = 0;  // seconds, seconds, dense over experts
};
CAJAL_OPTIONS(LayerTime, dense, experts, ratio)

/// Time of one FFN of bf16 rows, whole and in experts behind a router, weights that no cache holds.
LayerTime time_layer(int64_t width, int64_t count, int64_t batch, int copies, int rounds) {
  const int64_t neurons = 4 * width;
  std::vector<torch::Tensor> weights;
  std::vector<engine::FeedForward> dense, cut;
  const auto matrix = [&](int64_t rows, int64_t columns) {
    weights.push_back((torch::randn({rows, columns}) / std::sqrt(static_cast<double>(columns)))
                          .to(torch::kBFloat16));
    return row_matrix(Format::bf16, weights.back().data_ptr(), rows, columns, "speed");
  };
  for (int k = 0; k < copies; ++k) {
    auto network = std::make_shared<engine::StoredFeedForward>();
    network->law = Activation::relu;
    auto& group = network->groups.emplace_back();
    group.key.weight = matrix(neurons, width);
    group.value.weight = matrix(width, neurons);
    const engine::Router router{.first = matrix(count, width), .second = matrix(count, count)};
    dense.push_back([network](engine::Input& x, float* y) { network->apply(x, y); });
    cut.push_back(
        engine::run_experts(network, engine::choose_experts(router, count / 4), count, count / 4));
  }
  ThreadPool threads;
  const auto x = torch::randn({batch, width});
  auto y = torch::empty({batch, width});
  const auto run = [&](const std::vector<engine::FeedForward>& form) {
    for (const auto& layer : form) {
      engine::Input input(x.data_ptr<float>(), batch, width, engine::Arithmetic::rounded, threads);
      layer(input, y.data_ptr<float>());
    }
  };
  const auto times = time_interleaved({[&] { run(dense); }, [&] { run(cut); }}, rounds, 3);
  return {times.median_seconds(0) / copies, times.median_seconds(1) / copies, times.ratio(0, 1)};
}

void speed(study::Lab& lab) {
  auto table = lab.table("one FFN, ratio 0.25, bf16, mlp router included",
                         {"shape", "batch", "ms dense", "ms experts", "times dense"});
  const auto shapes =
      lab.by_scale<std::vector<int64_t>>({64}, {768, 1024, 2048}, {768, 1024, 2048, 4096});
  for (const int64_t width : shapes)
    for (const int64_t batch :
         lab.by_scale<std::vector<int64_t>>({1}, {1, 64, 256}, {1, 64, 256})) {
      const int64_t count = lab.smoke() ? 4 : width / 16;
      const auto shape = fmt::format("{} x {}, {} experts", width, 4 * width, count);
      const auto t = lab.part(fmt::format("{}, batch {}", shape, batch), [&] {
        return time_layer(width, count, batch, lab.smoke() ? 1 : static_cast<int>(1 + 4096 / width),
                          lab.by_scale(2, batch == 1 ? 60 : 15, 60));
      });
      table.row(shape, batch, 1e3 * t.dense, 1e3 * t.experts, t.ratio);
      if (width == shapes.back() && batch != 64)
        lab.claim(
               fmt::format("{}, ratio 0.25, router included, batch {}: times dense", shape, batch))
            .paper("2x")
            .measured(t.ratio)
            .at_least(batch == 1 ? 2.0 : 1.5);
    }
}

void run(study::Lab& lab) {
  {
    const torch::NoGradGuard no_grad;
    OnModels models(lab);
    for (const char* name : {"opt-classics", "llama-classics"})
      if (auto subject = study::find_subject(lab, name)) models.run(*subject);
  }
  if (lab.smoke() || lab.has("sentence-polarity", "classification")) OnSentences(lab).run();
  against_small(lab);
  on_generator(lab);
  speed(lab);
  lab.not_shown("T5 and BERT on GLUE, RACE, SQuAD", "no such checkpoint ships");
  lab.not_shown("grouped experts on a GPU", "the engine's kernels run on the CPU");
  lab.not_shown("alternating dense and sparse phases of pre-training (ICML 2024)",
                "cutting during training is not built");
  lab.not_shown("dense of the active width from scratch at the size of opt-classics",
                "its training takes an hour of a GPU; pruned and small models stand in for it");
  lab.note("Ratio 1, batch 1 and grouped paths against masked dense: tests/layers, tests/surgery.");
}

const auto registered = study::add({.slug = "moefication"}, run);
}  // namespace
