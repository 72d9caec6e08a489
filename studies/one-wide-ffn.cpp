#include <cmath>
#include <map>

#include "cajal/core/timing.h"
#include "cajal/math/similarity.h"
#include "cajal/study/subject.h"
#include "cajal/surgery/share.h"
#include "cajal/train/translation.h"

namespace {
using namespace cajal;
using seq2seq::Seq2Seq;
using seq2seq::Seq2SeqOptions;
using study::Figure;

int64_t parameters_of(const Seq2SeqOptions& options) { return Seq2Seq(options)->parameter_count(); }

/// The plans of the paper and the rivals that the dossier names.
Seq2SeqOptions variant(const Seq2SeqOptions& base, const std::string& name) {
  auto o = base;
  if (name == "small_ff") {  // as many parameters as shared_enc_no_dec
    const auto wanted = parameters_of(seq2seq::planned(base, "shared_enc_no_dec"));
    const auto networks = static_cast<int64_t>(base.encoder.size() + base.decoder.size());
    const double saved = static_cast<double>(parameters_of(base) - wanted);
    o.neurons -= std::llround(saved / static_cast<double>(networks * (2 * base.width + 1)));
  } else if (name == "deep_shallow") {  // layers of the encoder cost 12 width², of the decoder 16
    const auto layers = static_cast<double>(base.encoder.size()) * 12 +
                        static_cast<double>(base.decoder.size()) * 16;
    o.decoder = {"own"};
    o.encoder = FfnPlan(static_cast<size_t>(std::llround((layers - 16) / 12)), "own");
  } else if (name == "shared_layers") {
    o.share_layers = true;
  } else {
    o = seq2seq::planned(base, name);
  }
  return o;
}

struct Row {
  Figure bleu, agreement;
  std::vector<torch::Tensor> taps;  // [words, width] of each layer, of the first seed
};

class OnTranslation {
 public:
  explicit OnTranslation(study::Lab& lab)
      : lab_(lab),
        data_(data::toy_translate({.train = lab.by_scale<int64_t>(200, 20'000, 40'000),
                                   .valid = lab.by_scale<int64_t>(20, 200, 1000),
                                   .test = lab.by_scale<int64_t>(20, 400, 2000)})) {
    const auto layers = static_cast<size_t>(lab.by_scale(2, 3, 6));
    base_.vocabulary = std::ssize(data_.words);
    base_.width = lab.by_scale(16, 64, 512), base_.neurons = 4 * base_.width;
    base_.heads = lab.by_scale(2, 4, 8);
    base_.encoder = base_.decoder = FfnPlan(layers, "own");
    options_ = {.steps = lab.by_scale(3, 400, 20'000),
                .batch = lab.by_scale(8, 48, 64),
                .warmup = lab.by_scale(2, 150, 400)};
    options_.learning_rate = lab.by_scale(1e-3, 3e-3, 7e-4);
  }

  void run() {
    auto table = lab_.table(
        "toy-translate (generated; its BLEU says nothing of natural language)",
        {"plan", "parameters", "encoder FFN", "decoder FFN", "of baseline", "BLEU", "chrF",
         "exact %", "word %", "agreement %", "ambiguity %", "bytes read a word"});
    std::map<std::string, Row> rows;
    const auto base = static_cast<double>(parameters_of(base_));
    for (const std::string name :
         {"baseline", "no_dec", "shared_enc", "shared_dec", "shared_enc_no_dec", "one_wide",
          "small_ff", "deep_shallow", "shared_layers", "no_enc"}) {
      const auto options = variant(base_, name);
      const Seq2Seq shape(options);
      Row row;
      const auto f = lab_.over_seeds([&](uint64_t seed) { return trained(options, seed, row); });
      row.bleu = f[0], row.agreement = f[4];
      // What a decoded word reads: the decoder and the words' table, in 4 bytes.
      const auto read = 4 * (shape->parameter_count() - encoder_parameters(options));
      table.row(name, shape->parameter_count(), shape->ffn_parameters(true),
                shape->ffn_parameters(false), static_cast<double>(shape->parameter_count()) / base,
                f[0], f[1], f[2], f[3], f[4], f[5], read);
      rows[name] = row;
    }
    const auto loss = [&](const char* name) {
      return rows["baseline"].bleu.mean() - rows[name].bleu.mean();
    };
    lab_.claim("shared encoder, no decoder FFN: BLEU lost")
        .paper("modest")
        .measured(loss("shared_enc_no_dec"))
        .at_most(1.5);
    lab_.claim("no decoder FFN: BLEU lost").paper("0.4").measured(loss("no_dec")).at_most(0.6);
    lab_.claim("One Wide over baseline, BLEU")
        .paper("+0.9")
        .measured(-loss("one_wide"))
        .at_least(0);
    lab_.claim("One Wide over smaller FFNs, BLEU")
        .measured(loss("small_ff") - loss("one_wide"))
        .at_least(0);
    lab_.claim("no encoder FFN costs more BLEU than no decoder FFN")
        .measured(loss("no_enc") - loss("no_dec"))
        .at_least(0);
    similarity(rows["baseline"], rows["one_wide"]);
  }

 private:
  std::vector<double> trained(const Seq2SeqOptions& options, uint64_t seed, Row& row) {
    Seq2Seq model(options);
    train::fit(model, data_.train, options_, lab_.device());
    const auto s = train::score(model, data_.test, data_.words, lab_.device());
    if (seed == lab_.seeds()[0]) row.taps = taps_of(model);
    return {s.bleu, s.chrf, s.exact, s.token, s.agreement, s.ambiguity};
  }

  int64_t encoder_parameters(const Seq2SeqOptions& options) const {
    const int64_t d = options.width, layers = std::ssize(options.encoder);
    const int64_t attention = (options.share_layers ? 1 : layers) * (4 * d * d + 4 * d + 2 * d);
    return attention + Seq2Seq(options)->ffn_parameters(true);
  }

  std::vector<torch::Tensor> taps_of(Seq2Seq& model) const {
    const torch::NoGradGuard no_grad;
    std::vector<const data::SentencePair*> pairs;
    for (const auto& pair : data_.valid)
      if (pair.source.size() == data_.valid[0].source.size()) pairs.push_back(&pair);
    std::vector<torch::Tensor> taps;
    model->taps = &taps;
    const auto batch = train::batch_of(pairs, lab_.device());
    model->encode(batch.source);
    model->taps = nullptr;
    for (auto& tap : taps) tap = tap.flatten(0, 1).cpu();
    return taps;
  }

  void similarity(const Row& baseline, const Row& wide) {
    const auto off_diagonal = [&](const Row& row, const std::string& name) {
      plot::HeatMap map{.title = "CKA of encoder layers, " + name};
      double sum = 0;
      int count = 0;
      for (size_t i = 0; i < row.taps.size(); ++i) {
        map.values.emplace_back();
        for (size_t j = 0; j < row.taps.size(); ++j) {
          map.values.back().push_back(math::linear_cka(row.taps[i], row.taps[j]));
          if (i != j) sum += map.values.back().back(), ++count;
        }
      }
      lab_.plot(map);
      return sum / count;
    };
    auto table = lab_.table("likeness of encoder layers",
                            {"plan", "mean CKA off the diagonal", "LNS of first and last"});
    const double a = off_diagonal(baseline, "baseline"), b = off_diagonal(wide, "one wide");
    const auto lns = [](const Row& row) {
      return math::neighbourhood_similarity(row.taps.front(), row.taps.back());
    };
    table.row("baseline", a, lns(baseline)), table.row("one_wide", b, lns(wide));
    lab_.claim("layers of One Wide are less alike: CKA below the baseline's by")
        .paper("yes")
        .measured(a - b)
        .at_least(0);
  }

  study::Lab& lab_;
  data::ToyTranslation data_;
  Seq2SeqOptions base_;
  train::TranslationOptions options_;
};

/// Sizes and latency at the paper's shape, with random weights: neither depends on their values.
void at_large(study::Lab& lab) {
  Seq2SeqOptions base{.vocabulary = lab.by_scale(100, 2000, 2000)};
  base.width = lab.by_scale(32, 512, 512), base.heads = 8, base.neurons = 4 * base.width;
  base.encoder = base.decoder = FfnPlan(static_cast<size_t>(lab.by_scale(2, 6, 6)), "own");
  const double embedding = static_cast<double>(base.vocabulary * base.width);
  const auto count = [&](const char* name) {
    return static_cast<double>(parameters_of(seq2seq::planned(base, name)));
  };
  const double own = count("baseline");
  lab.claim("One Wide: parameters differ from the baseline's by")
      .measured(std::abs(count("one_wide") / own - 1))
      .in_percent()
      .at_most(0.005);
  lab.claim("shared encoder, no decoder FFN: parameters saved, embedding aside")
      .paper("37 %")
      .measured((own - count("shared_enc_no_dec")) / (own - embedding))
      .in_percent()
      .at_least(0.37);

  const torch::NoGradGuard no_grad;
  torch::manual_seed(1);
  const std::vector<std::string> names = {"baseline", "no_dec", "shared_enc_no_dec", "one_wide",
                                          "deep_shallow"};
  std::vector<Seq2Seq> models;
  for (const auto& name : names) models.emplace_back(variant(base, name)), models.back()->eval();
  const int64_t words = lab.by_scale(4, 24, 24);
  auto table =
      lab.table(fmt::format("latency, width {}, {}+{} layers, {} words", base.width,
                            base.encoder.size(), base.decoder.size(), words),
                {"plan", "batch", "ms a sentence", "encoder ms", "sentences/s", "times faster"});
  for (const int64_t batch : {1, 32}) {
    const auto source = torch::randint(3, base.vocabulary, {batch, 20}, torch::kLong);
    std::vector<std::function<void()>> whole, part;
    for (auto& model : models) {
      whole.push_back([&] {
        const auto memory = model->encode(source);
        seq2seq::DecoderCache cache;
        auto word = torch::ones({batch}, source.options());
        for (int64_t i = 0; i < words; ++i) word = model->step(memory, word, cache).argmax(-1);
        word.sum().item<int64_t>();
      });
      part.push_back([&] { model->encode(source).states.sum().item<float>(); });
    }
    const auto times = time_interleaved(whole, lab.by_scale(1, batch == 1 ? 12 : 3, 30)),
               encoder = time_interleaved(part, lab.by_scale(1, 5, 30));
    for (size_t i = 0; i < names.size(); ++i)
      table.row(names[i], batch, times.median_seconds(i) * 1e3, encoder.median_seconds(i) * 1e3,
                static_cast<double>(batch) / times.median_seconds(i), times.ratio(0, i));
    if (batch > 1) continue;
    lab.claim("speed without decoder FFN, batch 1")
        .paper("1.20")
        .measured(times.ratio(0, 1))
        .at_least(1.2);
    lab.claim("speed of One Wide, batch 1")
        .paper("1.24")
        .measured(times.ratio(0, 3))
        .at_least(1.24);
  }
}

/// The same plans put on trained decoder-only models.
void on_trained(study::Lab& lab) {
  auto table = lab.table("trained models under `cajal share`",
                         {"model", "plan", "FFN parameters", "bits/byte", "change"});
  for (const char* name : {"opt-classics", "llama-classics"}) {
    auto subject = study::find_subject(lab, name);
    if (!subject) continue;
    const double dense = subject->bits_per_byte(subject->model);
    const auto likeness = surgery::ffn_likeness(subject->model, subject->calibration,
                                                lab.by_scale<int64_t>(256, 2048, 8192));
    const auto layers = subject->config().layers;
    const auto row = [&](const std::string& what, const surgery::SharePlan& plan, bool aligned,
                         int64_t steps) {
      auto form = surgery::shared(subject->model, plan, aligned);
      if (steps > 0) surgery::tune(form, plan, subject->calibration, {.steps = steps});
      const double bits = subject->bits_per_byte(form);
      table.row(subject->name, what, surgery::ffn_parameters(form, plan), bits, bits / dense - 1);
      return bits;
    };
    const auto steps = lab.by_scale<int64_t>(1, 10, 2000);
    const auto half = surgery::propose(likeness, layers / 2);
    row("as trained", surgery::SharePlan::own(layers), true, 0);
    const double plain = row("half as many, averaged", half, false, 0);
    const double aligned = row("half as many, aligned, averaged", half, true, 0);
    row(fmt::format("half as many, aligned, tuned {} steps", steps), half, true, steps);
    row("none in the upper half", surgery::SharePlan::none_above(layers, layers / 2), true, 0);
    lab.claim(subject->name + ": aligning neurons before averaging lowers bits a byte by")
        .measured(plain - aligned)
        .at_least(0);
  }
}

void run(study::Lab& lab) {
  OnTranslation(lab).run();
  at_large(lab);
  on_trained(lab);
  lab.not_shown("BLEU on WMT", "no WMT data ships; toy-translate is generated");
  lab.note("Gradients of tied networks, the cache and the CKA formula are checked in the tests.");
}

const auto registered = study::add({.slug = "one-wide-ffn"}, run);
}  // namespace
