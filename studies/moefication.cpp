#include <map>

#include "cajal/study/expert_checks.h"
#include "cajal/study/expert_trials.h"
#include "cajal/study/rivals.h"
#include "cajal/surgery/selection.h"
#include "cajal/train/small_language.h"

namespace {
using namespace cajal;
using study::Figure;
using surgery::ExpertSplit;

void on_generator(study::Lab& lab) {
  auto table = lab.table("generated experts, found again",
                         {"noise of a key", "split", "adjusted Rand index", "captured at 0.1"});
  for (const bool by_coordinate : {false, true})
    for (const auto split : {ExpertSplit::kmeans, ExpertSplit::coactivation}) {
      const auto of = fmt::format("generator, {}{}", to_name(split),
                                  by_coordinate ? ", 0.3 on every coordinate" : "");
      const auto f = lab.over_seeds(of, [&](uint64_t seed) {
        return study::found_again(split, by_coordinate ? 0.3 * 8 : 0.3, lab.by_scale(8, 32, 32),
                                  lab.by_scale(512, 8192, 16384), lab.by_scale(1, 30, 30), seed);
      });
      table.row(by_coordinate ? "0.3 a coordinate" : "length 0.3", to_name(split), f[0], f[1]);
      lab.claim(of + ": adjusted Rand index").measured(f[0]).at_least(0.95);
      lab.claim(of + ": captured mass at ratio 0.1").measured(f[1]).at_least(0.95);
    }
  lab.claim("auction: cost over that of the exact assignment, 256 x 8")
      .paper("up to 1.033")
      .measured(lab.part("auction", study::auction_over_exact))
      .at_most(1.02);
}

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
    std::vector<study::SentenceTrial> runs;
    for (const auto seed : lab_.seeds())
      runs.push_back(lab_.part("sentences", seed, [&] {
        return study::try_sentences(texts_, preset_,
                                    {.training = {.epochs = lab_.by_scale<int64_t>(1, 15, 30)},
                                     .tokens = lab_.by_scale<int64_t>(64, 16384, 65536),
                                     .seed = seed});
      }));
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
    for (size_t k = 0; k < std::size(study::kTrials); ++k) {
      std::vector<study::Cell> row = {to_name(study::kTrials[k].split), study::kTrials[k].router};
      for (size_t r = 0; r < std::size(study::kTrialRatios); ++r) {
        const auto kept = figure([&](const auto& run) { return run.kept[k][r]; });
        row.push_back(kept.mean() > 0 ? study::Cell(kept) : "");
        if (study::kTrialRatios[r] == 0.25) quarter.push_back(kept);
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
  study::Lab& lab_;
  data::SentencePolarity texts_;
  train::SentenceOptions preset_;
};

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
      const auto f = lab_.part(fmt::format("{}, {}", s.name, to_name(split)), [&] {
        return study::try_split(s, {.experts = s.config().neurons / (lab_.smoke() ? 16 : 32),
                                    .ratio = 0.2,
                                    .split = split,
                                    .training = {.epochs = lab_.by_scale<int64_t>(1, 15, 30)},
                                    .tokens = lab_.by_scale<int64_t>(512, 16384, 131072)});
      });
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

  /// What else leaves three quarters of the neurons out.
  void rivals(study::Subject& s) {
    const std::string pruned = "dense of the active width, pruned";
    const double cut = lab_.part(s.name + ", " + pruned, [&] {
      auto form = study::pruned(s, 0.25);
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

  struct Way {
    std::string name;
    surgery::MoefyOptions cut;
  };
  /// Ways to use a quarter of the neurons.
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
    const auto tokens = lab_.by_scale<int64_t>(512, 8192, 131072);
    const auto plain = lab_.part(s.name + ", test, dense and pruned", [&] {
      auto form = study::pruned(s, 0.25);
      return std::vector<double>{s.bits_per_byte(s.model), s.bits_per_byte(form),
                                 s.bits_per_byte_on("classics/test", tokens, s.model),
                                 s.bits_per_byte_on("classics/test", tokens, form)};
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
          out.push_back(s.bits_per_byte(form));
          out.push_back(s.bits_per_byte_on("classics/test", tokens, form));
        }
        return out;
      });
      const auto speed = lab_.part(s.name + ", decoding, " + way.name, [&] {
        return lab_.smoke() ? study::Decoding() : study::decode_cut(s, way.cut);
      });
      table.row(way.name, bits[0], bits[2], bits[1], bits[3], speed.tokens_per_second,
                speed.times_first);
    }
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
        return study::time_experts(width, count, batch,
                                   lab.smoke() ? 1 : static_cast<int>(1 + 4096 / width),
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
