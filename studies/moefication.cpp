#include <unistd.h>

#include <cmath>
#include <map>
#include <numeric>

#include "cajal/core/timing.h"
#include "cajal/data/polarity.h"
#include "cajal/engine/experts.h"
#include "cajal/layers/ffn/experts.h"
#include "cajal/math/assignment.h"
#include "cajal/math/clusters.h"
#include "cajal/study/subject.h"
#include "cajal/surgery/moefy.h"
#include "cajal/surgery/predictor.h"
#include "cajal/surgery/share.h"
#include "cajal/surgery/sparsity.h"
#include "cajal/surgery/split.h"
#include "cajal/surgery/write.h"
#include "cajal/train/sentences.h"
#include "cajal/train/small_language.h"

namespace {
using namespace cajal;
using study::Figure;
using surgery::ExpertSplit;

/// The experts of every layer behind other routers, or in other numbers for a token.
struct Routers {
  RouterKind kind;
  std::vector<std::shared_ptr<const lm::Experts>> of_layer;

  explicit Routers(const lm::Transformer& model) : kind(RouterKind::mlp) {
    for (const auto& block : model->blocks) of_layer.push_back(block.ffn.experts);
  }
  void use(lm::Transformer& model, RouterKind router, double ratio) const {
    for (size_t l = 0; l < of_layer.size(); ++l) {
      auto experts = std::make_shared<lm::Experts>(*of_layer[l]);
      experts->router = router;
      experts->active = std::max<int64_t>(
          1, std::llround(std::ceil(ratio * static_cast<double>(experts->count) - 1e-9)));
      if (router == RouterKind::similarity) {
        const auto rows = surgery::neuron_rows(model->blocks[l].ffn);
        experts->first =
            experts::centres(rows.gate.defined() ? rows.gate : rows.key, experts->count);
        experts->first = experts->first / experts->first.norm(2, -1, true).clamp_min(1e-12);
      }
      model->blocks[l].ffn.experts = std::move(experts);
    }
  }
  /// Every neuron counts; random experts of each token are kept by hooks instead.
  void use_random(lm::Transformer& model, double ratio, lm::Hooks& hooks) const {
    const int64_t count = of_layer[0]->count;
    const auto active = static_cast<int64_t>(std::ceil(ratio * static_cast<double>(count) - 1e-9));
    for (auto& block : model->blocks) block.ffn.experts.reset();
    hooks.add("blocks.*.mlp.hook_post", [=](std::string_view, const torch::Tensor& post) {
      auto sizes = post.sizes().vec();
      sizes.back() = count;
      return experts::keep(post, experts::best(torch::rand(sizes), active));
    });
  }
};

/// The generator with a known answer: 32 topics, experts of neurons that hear one topic each.
void on_generator(study::Lab& lab) {
  const int64_t topics = 32, each = lab.by_scale(8, 32, 32), width = 64,
                tokens = lab.by_scale(512, 8192, 16384);
  auto table = lab.table("generated experts, found again",
                         {"noise of a key", "split", "adjusted Rand index", "captured at 0.1"});
  for (const bool by_coordinate : {false, true})
    for (const auto split : {ExpertSplit::kmeans, ExpertSplit::coactivation}) {
      const auto f = lab.over_seeds([&](uint64_t seed) -> std::vector<double> {
        const auto direction = std::get<0>(torch::linalg_qr(torch::randn({width, width})));
        const double noise = by_coordinate ? 0.3 : 0.3 / std::sqrt(static_cast<double>(width));
        const auto topic = torch::randperm(topics * each, torch::kLong).remainder(topics);
        const auto key =
            direction.index_select(0, topic) + noise * torch::randn({topics * each, width});
        const auto mix =
            torch::rand({tokens, topics}).argsort(/*dim=*/-1, /*descending=*/false).slice(1, 0, 3);
        const auto weight = torch::zeros({tokens, topics}).scatter(1, mix, 1.0);
        const auto x = weight.mm(direction.slice(0, 0, topics)) +
                       0.1 / std::sqrt(static_cast<double>(width)) * torch::randn({tokens, width});
        const auto act = torch::relu(x.mm(key.t()) - 0.5);
        const auto order = surgery::expert_order(split, key, act > 0, topics, seed).order;
        std::vector<int64_t> label(order.size()), truth(order.size());
        for (size_t i = 0; i < order.size(); ++i)
          label[static_cast<size_t>(order[i])] = static_cast<int64_t>(i) / each;
        for (size_t i = 0; i < truth.size(); ++i)
          truth[i] = topic[static_cast<int64_t>(i)].item<int64_t>();
        const auto index = torch::tensor(std::vector<int64_t>(order.begin(), order.end()));
        const auto gains = experts::gains(act.index_select(1, index), topics, false);
        const auto router = surgery::train_router(
            RouterKind::mlp, experts::centres(key.index_select(0, index), topics), x, gains,
            (topics + 9) / 10, {.epochs = lab.by_scale(1, 30, 30), .seed = seed});
        return {math::adjusted_rand_index(label, truth), router.captured};
      });
      table.row(by_coordinate ? "0.3 a coordinate" : "length 0.3", to_name(split), f[0], f[1]);
      const auto of = fmt::format("generator, {}{}", to_name(split),
                                  by_coordinate ? ", 0.3 on every coordinate" : "");
      lab.claim(of + ": adjusted Rand index").measured(f[0]).at_least(0.95);
      lab.claim(of + ": captured mass at ratio 0.1").measured(f[1]).at_least(0.95);
    }
  const auto points = torch::randn({256, 32});
  const math::ClusterOptions options{.clusters = 8};
  const std::span<const float> numbers(points.data_ptr<float>(), 256 * 32);
  const auto centre = math::cluster(numbers, 32, options).centre;
  const auto centres = torch::tensor(centre).view({8, 32});
  const auto cost = torch::cdist(points, centres).square().contiguous();
  const auto places = cost.repeat_interleave(32, 1).contiguous();
  const auto auction = math::assign_balanced({cost.data_ptr<float>(), 256 * 8}, 256, 8);
  const auto exact = math::assign({places.data_ptr<float>(), 256 * 256}, 256, 256);
  double ours = 0, least = 0;
  for (int64_t i = 0; i < 256; ++i) {
    ours += cost[i][auction[static_cast<size_t>(i)]].item<double>();
    least += places[i][exact[static_cast<size_t>(i)]].item<double>();
  }
  lab.claim("auction: cost over that of the exact assignment, 256 x 8")
      .paper("up to 1.033")
      .measured(ours / least)
      .at_most(1.02);
}

/// Sentences with a class: all splits and routers on a network whose FFNs are 8 times its width.
void on_sentences(study::Lab& lab) {
  if (!lab.smoke() && !lab.has("sentence-polarity", "classification")) return;
  data::SentencePolarity texts;
  if (lab.smoke())
    texts.train = texts.valid =
        texts.test = {{"a good one", "a bad one", "good", "bad"}, {1, 0, 1, 0}};
  else
    texts = data::read_sentence_polarity();
  train::SentenceOptions preset{.steps = lab.by_scale<int64_t>(2, 150, 1500)};
  if (lab.smoke()) preset.width = 16, preset.neurons = 64, preset.vocabulary = 16;
  const std::vector<double> ratios = {0.1, 0.2, 0.25, 0.5};
  const std::vector<std::pair<ExpertSplit, std::string>> forms = {
      {ExpertSplit::kmeans, "oracle"},       {ExpertSplit::kmeans, "mlp"},
      {ExpertSplit::kmeans, "similarity"},   {ExpertSplit::kmeans, "random"},
      {ExpertSplit::coactivation, "oracle"}, {ExpertSplit::coactivation, "mlp"},
      {ExpertSplit::random, "oracle"},       {ExpertSplit::random, "mlp"}};
  std::vector<std::vector<double>> fired;
  int ordered = 0, layers = 0;
  std::map<std::pair<size_t, size_t>, size_t> place;  // of a form and a ratio among the figures
  const auto f = lab.over_seeds([&](uint64_t seed) -> std::vector<double> {
    train::SentenceClassifier dense(preset, texts.train, seed);
    dense.fit();
    const double full = dense.accuracy(texts.test);
    auto small = preset;
    small.neurons /= 4;
    train::SentenceClassifier active(small, texts.train, seed);
    active.fit();
    std::vector<double> out = {full, active.accuracy(texts.test) / full};
    const auto text = lab.smoke() ? std::vector<int32_t>(64, 2) : dense.running_text();
    const auto blocks = dense.model->blocks;
    for (const auto split : {ExpertSplit::kmeans, ExpertSplit::coactivation, ExpertSplit::random}) {
      dense.model->blocks = blocks, dense.model->layout = {};
      const auto reports = surgery::moefy(dense.model, text,
                                          {.split = split,
                                           .training = {.epochs = lab.by_scale<int64_t>(1, 15, 30)},
                                           .tokens = lab.by_scale<int64_t>(64, 16384, 65536),
                                           .seed = seed});
      const Routers routers(dense.model);
      if (split == ExpertSplit::kmeans) {
        auto& of_seed = fired.emplace_back();
        for (const auto& r : reports) of_seed.push_back(r.fired);
        dense.model->blocks = blocks, dense.model->layout = {};
        const auto alike = surgery::moefy(dense.model, text,
                                          {.router = RouterKind::similarity,
                                           .tokens = lab.by_scale<int64_t>(64, 16384, 65536),
                                           .seed = seed});
        // Random experts have their share of all gains, and the best of them more than that.
        for (size_t l = 0; l < reports.size(); ++l, ++layers)
          ordered += reports[l].captured >= alike[l].captured && reports[l].captured <= 1 &&
                     alike[l].mass > 0.25;
      }
      for (size_t k = 0; k < forms.size(); ++k) {
        const auto& [of, router] = forms[k];
        for (size_t r = 0; r < ratios.size(); ++r) {
          if (of != split || (split != ExpertSplit::kmeans && ratios[r] != 0.25)) continue;
          lm::Hooks hooks;
          if (router == "random")
            routers.use_random(dense.model, ratios[r], hooks);
          else
            routers.use(dense.model, from_name<RouterKind>(router, "router"), ratios[r]);
          place[{k, r}] = out.size();
          out.push_back(dense.accuracy(texts.test, hooks.empty() ? nullptr : &hooks) / full);
        }
      }
    }
    return out;
  });
  auto table = lab.table(
      fmt::format("sentence-polarity, accuracy over dense, 4 layers, {} neurons", preset.neurons),
      {"split", "router", "0.1", "0.2", "0.25", "0.5"});
  table.row("dense", "accuracy itself", f[0], f[0], f[0], f[0]);
  table.row("dense of the active width (0.25), from scratch", "", "", "", f[1], "");
  for (size_t k = 0; k < forms.size(); ++k) {
    std::vector<study::Cell> row = {to_name(forms[k].first), forms[k].second};
    for (size_t r = 0; r < ratios.size(); ++r) {
      const auto found = place.find({k, r});
      row.push_back(found == place.end() ? study::Cell("") : study::Cell(f[found->second]));
    }
    table.add(row);
  }
  auto shares = lab.table("share of neurons that fire, sentences", {"layer", "fires"});
  for (size_t l = 0; l < fired.front().size(); ++l) {
    Figure of_layer;
    for (const auto& seed : fired) of_layer.values.push_back(seed[l]);
    shares.row(static_cast<int64_t>(l), of_layer);
  }
  const auto &oracle = f[place.at({0, 2})], &mlp = f[place.at({1, 2})];  // k-means, 0.25
  lab.claim("sentences: k-means and MLP router keep this share of accuracy at 25 %")
      .paper("over 95 % at 10 to 30 %")
      .measured(mlp)
      .in_percent()
      .at_least(0.95);
  lab.claim("sentences: oracle at 25 %").measured(oracle).in_percent().at_least(0.98);
  lab.claim("sentences: oracle >= mlp >= similarity > random in captured mass, every layer")
      .holds(ordered == layers);
  lab.claim("sentences: at 25 % no worse than dense of the active width, ratio of accuracies")
      .measured(mlp.mean() / f[1].mean())
      .at_least(1);
}

/// Trained language models, cut as they are.
class OnModels {
 public:
  explicit OnModels(study::Lab& lab)
      : lab_(lab),
        table_(lab.table(
            "trained language models, no training after the cut",
            {"model", "split", "router", "ratio", "captured", "mass", "bits/byte", "change"})),
        speed_(lab.table("decoding on the engine, one token after another, router included",
                         {"model", "form", "MB a token", "tokens/s", "times dense"})) {}

  void run(study::Subject& s) {
    dense_ = s.bits_per_byte(s.model);
    row(s, "dense", "", 1, {}, dense_);
    std::map<ExpertSplit, double> mass;
    for (const auto split : {ExpertSplit::kmeans, ExpertSplit::coactivation, ExpertSplit::random})
      mass[split] = of_split(s, split);
    if (!s.config().gated)
      lab_.claim(s.name + ": share of all activations captured at 0.2, k-means less random split")
          .measured(mass[ExpertSplit::kmeans] - mass[ExpertSplit::random])
          .at_least(0.05);
    rivals(s);
  }

 private:
  struct Taken {
    double captured = 0, mass = 0;
  };
  void row(const study::Subject& s, const std::string& split, const std::string& router,
           double ratio, std::optional<Taken> taken, double bits) {
    table_.row(s.name, split, router, ratio, taken ? study::Cell(taken->captured) : "",
               taken ? study::Cell(taken->mass) : "", bits, bits / dense_ - 1);
  }

  double of_split(study::Subject& s, ExpertSplit split) {
    auto form = s.copy();
    const auto reports = surgery::moefy(form, s.calibration,
                                        {.experts = s.config().neurons / (lab_.smoke() ? 16 : 32),
                                         .ratio = 0.2,
                                         .split = split,
                                         .training = {.epochs = lab_.by_scale<int64_t>(1, 15, 30)},
                                         .tokens = lab_.by_scale<int64_t>(512, 16384, 131072)});
    Taken at_fifth;
    for (const auto& r : reports) {
      at_fifth.captured += r.captured / static_cast<double>(reports.size());
      at_fifth.mass += r.mass / static_cast<double>(reports.size());
    }
    const Routers routers(form);
    for (const double ratio : {0.1, 0.2, 0.25, 0.5})
      for (const auto kind : {RouterKind::oracle, RouterKind::mlp, RouterKind::similarity}) {
        if (ratio != 0.25 && (split != ExpertSplit::kmeans || kind == RouterKind::similarity))
          continue;
        if (split != ExpertSplit::kmeans && kind == RouterKind::similarity) continue;
        if (ratio == 0.2 && kind != RouterKind::mlp) continue;
        routers.use(form, kind, ratio);
        const double bits = s.bits_per_byte(form);
        const bool known = kind == RouterKind::mlp && ratio == 0.2;
        row(s, to_name(split), to_name(kind), ratio, known ? std::optional(at_fifth) : std::nullopt,
            bits);
        if (split == ExpertSplit::kmeans && ratio == 0.25 && kind == RouterKind::mlp) {
          kept_ = bits;
          speed(s, form);
        }
      }
    if (split == ExpertSplit::kmeans) {
      lm::Hooks hooks;
      routers.use_random(form, 0.25, hooks);
      row(s, to_name(split), "random", 0.25, {}, s.bits_per_byte(form, &hooks));
    }
    return at_fifth.mass;
  }

  /// What else leaves three quarters of the neurons out.
  void rivals(study::Subject& s) {
    auto pruned = s.copy();
    surgery::split(pruned,
                   surgery::make_plan("heavy=bf16,rest=drop", s.census,
                                      {.score = surgery::Score::energy, .ratio = 0.25}),
                   s.census);
    const double cut = s.bits_per_byte(pruned);
    row(s, "dense of the active width, pruned", "", 0.25, {}, cut);
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
      for (const double share : {0.5, 0.75}) {
        lm::Hooks hooks;
        surgery::SparseCount count;
        surgery::attach(hooks, s.model, rule,
                        surgery::find_thresholds(s.model, rule, share, s.calibration), count);
        row(s, rule == surgery::SparseRule::teal ? "TEAL, inputs of all matrices" : "CATS", "",
            1 - share, {}, s.bits_per_byte(s.model, &hooks));
      }
    }
    if (s.config().gated) return;
    const int64_t tokens = lab_.by_scale<int64_t>(512, 16384, 65536);
    const auto predictors = surgery::train_predictors(
        s.model, s.calibration, {.epochs = lab_.by_scale<int64_t>(1, 6, 20), .tokens = tokens});
    for (const bool hot : {false, true}) {
      lm::Hooks hooks;
      surgery::PredictorCount count;
      surgery::attach(hooks, s.model, predictors,
                      hot ? surgery::hot_neurons(s.census, 0.1) : std::vector<torch::Tensor>(),
                      threshold(s, predictors, hot ? 0.15 : 0.25), count);
      const double bits = s.bits_per_byte(s.model, &hooks);
      row(s, hot ? "PowerInfer: 10 % hot, others predicted" : "Deja Vu: neurons predicted", "",
          count.density(), {}, bits);
    }
  }

  /// The probability that `share` of all (token, neuron) are guessed above.
  double threshold(study::Subject& s, const std::vector<surgery::Predictor>& predictors,
                   double share) {
    const auto read = surgery::firing(s.model, s.calibration, 1024);
    std::vector<torch::Tensor> all;
    for (size_t l = 0; l < read.size(); ++l) {
      const auto& p = predictors[l];
      all.push_back((read[l].x.mm(p.down.t()).mm(p.up.t()) + p.shift).flatten());
    }
    const auto logits = torch::cat(all);
    const auto rank = static_cast<int64_t>((1 - share) * static_cast<double>(logits.numel()));
    const double logit = std::get<0>(logits.kthvalue(std::max<int64_t>(1, rank))).item<double>();
    return std::clamp(1 / (1 + std::exp(-logit)), 1e-6, 1 - 1e-6);
  }

  void speed(study::Subject& s, lm::Transformer& form) {
    if (lab_.smoke()) return;
    const auto folder = std::filesystem::temp_directory_path() /
                        fmt::format("cajal-moefication-{}-{}", s.name, getpid());
    form->layout.experts->active.assign(form->blocks.size(), form->blocks[0].ffn.experts->active);
    surgery::write(form, lm::find_model(s.name), folder);
    const auto dense = engine::Network::open(lm::find_model(s.name));
    const auto cut = engine::Network::open(folder);
    ThreadPool threads;
    const auto decode = [&](const engine::Network& network) {
      engine::Cache cache(network.config(), 96, network.cache_format());
      for (size_t t = 0; t < 96; ++t)
        network.forward(std::span(s.valid).subspan(t, 1), 1, cache, threads);
    };
    const auto times = time_interleaved({[&] { decode(dense); }, [&] { decode(cut); }}, 21, 3);
    for (size_t k = 0; k < 2; ++k) {
      const auto& network = k == 0 ? dense : cut;
      speed_.row(s.name, k == 0 ? "dense bf16" : "k-means, mlp, 25 %",
                 static_cast<double>(network.bytes_per_token()) / 1e6, 96 / times.median_seconds(k),
                 times.ratio(0, k));
    }
    lab_.note(
        fmt::format("{}: decoding at 25 % is {:.2f} times dense bf16, the whole model, {} "
                    "threads.",
                    s.name, times.ratio(0, 1), threads.size()));
    std::filesystem::remove_all(folder);
  }

  study::Lab& lab_;
  study::TableWriter table_, speed_;
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
  const auto f = lab.over_seeds([&](uint64_t seed) -> std::vector<double> {
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
    const Routers routers(dense.model);
    const double mlp = dense.bits_per_byte(valid);
    routers.use(dense.model, RouterKind::oracle, 0.25);
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

/// Time of one FFN, router included, weights that no cache holds.
void speed(study::Lab& lab) {
  auto table = lab.table("one FFN, ratio 0.25, bf16, mlp router included",
                         {"shape", "batch", "ms dense", "ms experts", "times dense"});
  ThreadPool threads;
  const auto shapes =
      lab.by_scale<std::vector<int64_t>>({64}, {768, 1024, 2048}, {768, 1024, 2048, 4096});
  for (const int64_t width : shapes) {
    const int64_t neurons = 4 * width, count = lab.smoke() ? 4 : neurons / 64;
    const int copies = lab.smoke() ? 1 : static_cast<int>(1 + 4096 / width);
    const auto bf16 = [](torch::IntArrayRef sizes) {
      return (torch::randn(sizes) / std::sqrt(static_cast<double>(sizes[1]))).to(torch::kBFloat16);
    };
    std::vector<torch::Tensor> weights;
    std::vector<engine::FeedForward> dense, cut;
    const auto matrix = [&](torch::IntArrayRef sizes) {
      weights.push_back(bf16(sizes));
      return row_matrix(Format::bf16, weights.back().data_ptr(), sizes[0], sizes[1], "speed");
    };
    for (int k = 0; k < copies; ++k) {
      auto network = std::make_shared<engine::StoredFeedForward>();
      network->law = Activation::relu;
      auto& group = network->groups.emplace_back();
      group.key.weight = matrix({neurons, width});
      group.value.weight = matrix({width, neurons});
      const engine::Router router{.first = matrix({count, width}),
                                  .second = matrix({count, count})};
      dense.push_back([network](engine::Input& x, float* y) { network->apply(x, y); });
      cut.push_back(engine::run_experts(network, engine::choose_experts(router, count / 4), count,
                                        count / 4));
    }
    for (const int64_t batch :
         lab.by_scale<std::vector<int64_t>>({1}, {1, 64, 256}, {1, 64, 256})) {
      const auto x = torch::randn({batch, width});
      auto y = torch::empty({batch, width});
      const auto run = [&](const std::vector<engine::FeedForward>& form) {
        for (const auto& layer : form) {
          engine::Input input(x.data_ptr<float>(), batch, width, engine::Arithmetic::rounded,
                              threads);
          layer(input, y.data_ptr<float>());
        }
      };
      const auto times = time_interleaved({[&] { run(dense); }, [&] { run(cut); }},
                                          lab.by_scale(2, batch == 1 ? 60 : 15, 60), 3);
      table.row(fmt::format("{} x {}, {} experts", width, neurons, count), batch,
                1e3 * times.median_seconds(0) / copies, 1e3 * times.median_seconds(1) / copies,
                times.ratio(0, 1));
      if (width == shapes.back() && batch != 64)
        lab.claim(fmt::format("{} x {}, ratio 0.25, router included, batch {}: times dense", width,
                              neurons, batch))
            .paper("2x")
            .measured(times.ratio(0, 1))
            .at_least(batch == 1 ? 2.0 : 1.5);
    }
  }
}

void run(study::Lab& lab) {
  on_generator(lab);
  speed(lab);
  {
    const torch::NoGradGuard no_grad;
    OnModels models(lab);
    for (const char* name : {"opt-classics", "llama-classics"})
      if (auto subject = study::find_subject(lab, name)) models.run(*subject);
  }
  on_sentences(lab);
  against_small(lab);
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
