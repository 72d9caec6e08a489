
#include "cajal/atlas/measure.h"
#include "cajal/core/timing.h"
#include "cajal/kernels/limits.h"
#include "cajal/models/lm/block.h"
#include "cajal/models/lm/summary.h"
#include "cajal/study/rivals.h"
#include "cajal/surgery/errors.h"
#include "cajal/surgery/split.h"
#include "cajal/surgery/synthetic.h"
#include "cajal/surgery/write.h"

namespace {
using namespace cajal;
using study::Subject;
using surgery::Score;

constexpr double kRatios[] = {0.10, 0.25, 0.50};

surgery::Plan plan_of(const Subject& s, std::string_view words,
                      const surgery::PlanOptions& options = {}) {
  return surgery::make_plan(words, s.census, options);
}
int64_t bytes_of(const Subject& s, const surgery::Plan& plan) {
  return surgery::plan_bytes(plan, s.config().width, s.config().gated);
}

/// Figures of one plan: what it costs, what it loses.
struct Row {
  double bits = 0, ffn_bytes = 0, bytes = 0, cut = 0;  // bits a weight of the FFNs
  double bits_per_byte = 0, error = 0;
};
CAJAL_OPTIONS(Row, bits, ffn_bytes, bytes, cut, bits_per_byte, error)

/// The heavy neurons of one layer.
struct Energy {
  std::vector<double> share;  // s(0.05), s(0.10), s(0.25), s(0.50)
  double overlap = 0;
};
CAJAL_OPTIONS(Energy, share, overlap)

/// Tables and claims on trained models.
class OnModels {
 public:
  OnModels(study::Lab& lab)
      : lab_(lab),
        plans_(lab.table("plans", {"model", "plan", "FFN bits/weight", "FFN MB", "model MB",
                                   "size cut", "bits/byte", "change", "rel. output error"})),
        energy_(lab.table("energy held by the heavy neurons, and their stability",
                          {"model", "layer", "s(0.05)", "s(0.10)", "s(0.25)", "s(0.50)",
                           "Jaccard of two halves"})),
        ablation_(lab.table("ablation: neurons silenced",
                            {"model", "none", "top 5 %", "random 5 %", "bottom 5 %"})),
        sparse_(lab.table("sparse at run time",
                          {"model", "method", "left out", "recall", "bits/byte", "change"})) {}

  void run(Subject& s) {
    choices_.reset();
    dense_ = lab_.part(s.name + ", dense", [&] { return s.bits_per_byte(s.model); });
    stability_and_energy(s);
    ablation(s);
    plans(s);
    sparse(s);
  }

 private:
  using MakePlan = std::function<surgery::Plan()>;

  Row row(Subject& s, const std::string& label, const MakePlan& make, bool rest_in_8_bits = false) {
    const auto r = lab_.part(fmt::format("{}, {}", s.name, label),
                             [&] { return measure(s, make(), rest_in_8_bits); });
    plans_.row(s.name, label, r.bits, r.ffn_bytes / 1e6, r.bytes / 1e6, r.cut, r.bits_per_byte,
               r.bits_per_byte / dense_ - 1, r.error);
    return r;
  }
  Row row(Subject& s, const std::string& label, std::string_view words,
          const surgery::PlanOptions& options = {}) {
    return row(s, label, [&] { return plan_of(s, words, options); });
  }

  static Row measure(Subject& s, const surgery::Plan& plan, bool rest_in_8_bits) {
    auto form = s.copy();
    const bool weighted = plan.name.find("asvd") != std::string::npos;
    surgery::split(form, plan, s.census,
                   weighted ? surgery::measure_moments(s.model, s.calibration)
                            : std::vector<surgery::Moments>());
    if (rest_in_8_bits) surgery::requantise(form, {Format::q8_0, Format::q8_0});
    Row out{.bits = surgery::plan_bits(plan, s.config().width, s.config().gated)};
    for (const auto errors = surgery::output_errors(s.model, form, s.calibration, 2048);
         const double e : errors)
      out.error += e / static_cast<double>(errors.size());
    // Factors of a low rank are multiplied out in memory: the plan knows their bytes.
    const auto ffn = bytes_of(s, plan);
    out.ffn_bytes = static_cast<double>(ffn);
    out.bytes = static_cast<double>(lm::summarise(form).stored_bytes - ffn_stored(form) + ffn);
    out.cut = 1 - out.bytes / (2.0 * static_cast<double>(lm::summarise(s.model).parameters));
    out.bits_per_byte = s.bits_per_byte(form);
    return out;
  }

  const surgery::Choices& choices(Subject& s) {
    if (!choices_) choices_ = surgery::measure_errors(s.model, s.census, s.calibration);
    return *choices_;
  }

  static int64_t ffn_stored(const lm::Transformer& model) {
    int64_t bytes = 0;
    for (const auto& block : model->blocks)
      for (const auto& group : block.ffn.groups)
        for (const auto* matrix : {&group.key, &group.gate, &group.value})
          if (matrix->defined()) bytes += matrix->stored_bytes();
    return bytes;
  }

  void stability_and_energy(Subject& s) {
    const auto layers = lab_.part(s.name + ", heavy neurons of two halves", [&] {
      const std::span ids(s.calibration);
      const auto a = atlas::measure(s.model, ids.first(ids.size() / 2)),
                 b = atlas::measure(s.model, ids.subspan(ids.size() / 2));
      std::vector<Energy> out;
      for (size_t l = 0; l < s.census.layers.size(); ++l) {
        auto& layer = out.emplace_back();
        for (const double ratio : {0.05, 0.10, 0.25, 0.50})
          layer.share.push_back(
              surgery::forecast(s.census.layers[l], Score::hits, ratio, Format::q8_0, Format::q4_0)
                  .share);
        layer.overlap = surgery::jaccard(surgery::heavy_neurons(a.layers[l], Score::hits, 0.25),
                                         surgery::heavy_neurons(b.layers[l], Score::hits, 0.25));
      }
      return out;
    });
    double sum = 0;
    for (size_t l = 0; l < layers.size(); ++l) {
      const auto& [share, overlap] = layers[l];
      energy_.row(s.name, std::to_string(l), share[0], share[1], share[2], share[3], overlap);
      sum += overlap / static_cast<double>(layers.size());
    }
    lab_.claim(s.name + ": heavy hitters are the same on two halves of the text (Jaccard)")
        .paper("stable")
        .measured(sum)
        .at_least(0.8);
  }

  void ablation(Subject& s) {
    const auto silenced = [&](const std::string& which, Score score, bool bottom) {
      return lab_.part(fmt::format("{}, {} 5 % silenced", s.name, which), [&] {
        auto form = s.copy();
        for (size_t l = 0; l < form->blocks.size(); ++l) {
          auto order = surgery::ranking(s.census.layers[l], score, 100 + l);
          if (bottom) std::reverse(order.begin(), order.end());
          order.resize(order.size() / 20);
          form->blocks[l].ffn = surgery::silence(form->blocks[l].ffn, order);
        }
        return s.bits_per_byte(form);
      });
    };
    const double top = silenced("top", Score::hits, false),
                 random = silenced("random", Score::random, false);
    ablation_.row(s.name, dense_, top, random, silenced("bottom", Score::hits, true));
    lab_.claim(s.name + ": silencing the top 5 % costs this many times a random 5 %")
        .paper("far more")
        .measured((top - dense_) / std::max(1e-6, random - dense_))
        .at_least(5);
  }

  void plans(Subject& s) {
    for (const char* uniform : {"all=q8_0", "all=q5_0", "all=q4_1", "all=q4_0"})
      row(s, uniform, uniform);
    const auto mix = surgery::usual_mix(s.config().width);
    row(s, "as llama.cpp's Q4_K_M at this width: " + mix, mix);
    for (const char* svd : {"svd", "asvd"}) {
      row(s, fmt::format("{} of all, rank 0.3", svd), fmt::format("all={}:0.3", svd));
      row(s, fmt::format("heavy f16, rest {} 0.2", svd), fmt::format("heavy=f16,rest={}:0.2", svd));
    }
    row(s, "heavy f16, rest dropped", "heavy=f16,rest=drop");
    const std::string split_words = "heavy=q8_0,rest=q4_0";
    for (const double ratio : {0.10, 0.50})
      row(s, fmt::format("split q8_0/q4_0, r {}", ratio), split_words, {.ratio = ratio});
    const auto split = row(s, "split q8_0/q4_0, r 0.25", split_words);
    std::vector<double> random;
    for (const auto seed : lab_.seeds())
      random.push_back(row(s, fmt::format("random q8_0/q4_0, seed {}", seed),
                           "random=q8_0,rest=q4_0", {.seed = seed})
                           .bits_per_byte);
    const auto inverse = row(s, "inverse q8_0/q4_0", "inverse=q8_0,rest=q4_0");
    const double mean = study::Figure(random).mean();
    lab_.claim(s.name + ": bits a byte, split < random < inverse")
        .paper("yes")
        .holds(split.bits_per_byte < mean && mean < inverse.bits_per_byte);
    planned(s);
  }

  void planned(Subject& s) {
    const auto formats = surgery::ErrorOptions{}.formats;
    const auto worst = lab_.part(s.name + ", planner against one format", [&] {
      double out = 0;
      for (size_t f = 0; f < choices(s).formats.size(); ++f) {
        const auto uniform = surgery::uniform_cost(choices(s), f);
        const auto plan = surgery::plan_for_budget(choices(s), uniform.bytes);
        out = std::max(out, surgery::cost(choices(s), plan).error / uniform.error);
      }
      return out;
    });
    for (const auto format : formats)
      row(s, fmt::format("planned, bytes of {}", to_name(format)), [&] {
        return surgery::plan_for_budget(choices(s),
                                        bytes_of(s, plan_of(s, "all=" + to_name(format))));
      });
    lab_.claim(s.name +
               ": the planner's calibration error over that of one format of equal bytes, worst")
        .paper("")
        .measured(worst)
        .at_most(1);
    const auto best = row(
        s, "planned, bytes of q5_0; attention and embedding q8_0",
        [&] { return surgery::plan_for_budget(choices(s), bytes_of(s, plan_of(s, "all=q5_0"))); },
        true);
    lab_.claim(s.name + ": model size cut against 16 bits")
        .paper("43.1 %")
        .measured(best.cut)
        .in_percent()
        .at_least(0.431);
    lab_.claim(s.name + ": bits a byte lost by that model")
        .paper("negligible")
        .measured(best.bits_per_byte / dense_ - 1)
        .in_percent()
        .at_most(0.01);
  }

  void sparse(Subject& s) {
    const auto add = [&](const std::string& method, const study::Sparse& r) {
      sparse_.row(s.name, method, r.left_out, r.recall > 0 ? study::Cell(r.recall) : "",
                  r.bits_per_byte, r.bits_per_byte / dense_ - 1);
    };
    for (const double share : {0.25, 0.40, 0.50})
      for (const auto rule : {surgery::SparseRule::teal, surgery::SparseRule::cats}) {
        if (rule == surgery::SparseRule::cats && !s.config().gated) continue;
        const auto method = fmt::format(
            "{} {:.0f} %", rule == surgery::SparseRule::teal ? "TEAL" : "CATS", 100 * share);
        add(method,
            lab_.part(s.name + ", " + method, [&] { return study::with_rule(s, rule, share); }));
      }
    if (s.config().gated) return;
    const auto predicted = lab_.part(s.name + ", predictors", [&] {
      return study::with_predictors(s, {.epochs = lab_.by_scale<int64_t>(1, 8, 20),
                                        .tokens = lab_.by_scale<int64_t>(512, 16384, 65536)});
    });
    add("Deja Vu predictor", predicted[0]);
    add("PowerInfer: 10 % hot, others predicted", predicted[1]);
  }

  study::Lab& lab_;
  study::TableWriter plans_, energy_, ablation_, sparse_;
  double dense_ = 0;
  std::optional<surgery::Choices> choices_;  // of the subject, measured when first asked for
};

/// Claim 1: a split is the same function.
double largest_change() {
  double largest = 0;
  for (const auto& [law, gated] :
       {std::pair(Activation::relu, false), {Activation::gelu, false}, {Activation::silu, true}}) {
    const auto s = surgery::synthetic_ffn(law, gated, 64, 256, 1, 64, 1);
    atlas::Census census;
    census.layers = {s.census};
    for (const auto score :
         {Score::hits, Score::mean_norm, Score::energy, Score::weight, Score::random})
      for (const double ratio : {0.0, 0.25, 1.0}) {
        const auto plan =
            surgery::make_plan("heavy=f32,rest=f32", census, {.score = score, .ratio = ratio});
        largest = std::max(
            largest,
            surgery::output_error(s, surgery::split(s.ffn, plan.layers[0], s.census)).largest);
      }
  }
  return largest;
}

/// Errors of splits and of one format of as many bytes, and who was said to win.
struct Forecasts {
  std::vector<double> ratio, share, needed, split, uniform;
};
CAJAL_OPTIONS(Forecasts, ratio, share, needed, split, uniform)

Forecasts forecasts(double sigma, int64_t neurons, int64_t tokens) {
  const auto s = surgery::synthetic_ffn(Activation::relu, false, 128, neurons, sigma, tokens, 10);
  atlas::Census census;
  census.layers = {s.census};
  const auto error = [&](const surgery::Plan& plan) {
    return surgery::output_error(s, surgery::split(s.ffn, plan.layers[0], s.census)).mean_square;
  };
  // One format of exactly the same bytes need not exist: log error is interpolated over bits.
  std::vector<std::pair<double, double>> uniform;
  for (const char* words : {"all=q4_0", "all=q5_0", "all=q8_0"}) {
    const auto plan = surgery::make_plan(words, census);
    uniform.emplace_back(surgery::plan_bits(plan, 128, false), std::log(error(plan)));
  }
  Forecasts out;
  for (const double ratio : kRatios) {
    const auto plan = surgery::make_plan("heavy=q8_0,rest=q4_0", census, {.ratio = ratio});
    const double bits = surgery::plan_bits(plan, 128, false);
    const size_t k = bits > uniform[1].first ? 1 : 0;
    const double t = (bits - uniform[k].first) / (uniform[k + 1].first - uniform[k].first);
    const auto guess = surgery::forecast(s.census, Score::hits, ratio, Format::q8_0, Format::q4_0);
    out.ratio.push_back(guess.ratio), out.share.push_back(guess.share);
    out.needed.push_back(guess.needed), out.split.push_back(error(plan));
    out.uniform.push_back(std::exp((1 - t) * uniform[k].second + t * uniform[k + 1].second));
  }
  return out;
}

/// Claim 4: the forecast of Build 7 is right.
void on_synthetic(study::Lab& lab) {
  lab.claim("a split kept in 32 bits equals the dense FFN (3 laws, 5 scores, r 0 to 1)")
      .paper("exact")
      .measured(lab.part("generated, kept in 32 bits", largest_change))
      .at_most(1e-5);
  auto table = lab.table(
      "go or no-go on generated FFNs",
      {"sigma", "r", "s(r)", "needed", "error, split", "error, one format", "forecast", "truth"});
  int right = 0, cases = 0;
  for (const double sigma : {0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0}) {
    const auto f = lab.part(fmt::format("generated, sigma {}", sigma), [&] {
      return forecasts(sigma, lab.by_scale(512, 2048, 8192), lab.by_scale(256, 2048, 8192));
    });
    for (size_t r = 0; r < f.ratio.size(); ++r) {
      const bool said = f.share[r] > f.needed[r], won = f.split[r] < f.uniform[r];
      right += said == won, ++cases;
      table.row(sigma, f.ratio[r], f.share[r], f.needed[r], f.split[r], f.uniform[r],
                said ? "split" : "one", won ? "split" : "one");
    }
  }
  lab.claim("the forecast names the winner, share of cases")
      .paper("")
      .measured(static_cast<double>(right) / cases)
      .in_percent()
      .at_least(0.9);
}

/// Rows wide enough for K-quants, which those of the embedded models are not.
void k_quants(study::Lab& lab) {
  auto table = lab.table("generated FFN of width 256, sigma 1",
                         {"plan", "bits/weight", "rel. output error"});
  for (const std::string words : {"all=q4_0", "all=q4_K", "mix=q4_K,values=q6_K", "all=q4_K/q6_K",
                                  "all=q5_0", "heavy=q8_0,rest=q4_0", "heavy=q6_K,rest=q4_K"}) {
    const auto f = lab.over_seeds("width 256, " + words, [&](uint64_t seed) -> std::vector<double> {
      const auto s = surgery::synthetic_ffn(Activation::relu, false, 256, 1024, 1,
                                            lab.by_scale(64, 2048, 2048), seed);
      atlas::Census census;  // of 8 layers alike, of which a mix changes some
      census.layers.assign(8, s.census);
      const auto plan = surgery::make_plan(words, census);
      double error = 0;
      for (const auto& layer : plan.layers)
        error += surgery::output_error(s, surgery::split(s.ffn, layer, s.census)).mean_square / 8;
      return {surgery::plan_bits(plan, 256, false), error};
    });
    table.row(words, f[0], f[1]);
  }
}

constexpr const char* kTimed[] = {"all=f32",  "all=bf16", "all=q8_0",
                                  "all=q5_0", "all=q4_0", "heavy=q8_0,rest=q4_0"};

struct Times {
  std::vector<double> bytes, seconds, times_f32, times_bf16;  // of each form
  double bandwidth = 0;
};
CAJAL_OPTIONS(Times, bytes, seconds, times_f32, times_bf16, bandwidth)

/// One token through an FFN of real size, cold: `copies` of each form in turn.
Times time_forms(int64_t width, int copies, int rounds, size_t read) {
  std::vector<std::vector<lm::FeedForward>> forms;
  const auto s = surgery::synthetic_ffn(Activation::relu, false, width, 4 * width, 1, 8, 3);
  atlas::Census census;
  census.layers = {s.census};
  Times out;
  for (const char* words : kTimed) {
    const auto plan = surgery::make_plan(words, census);
    out.bytes.push_back(static_cast<double>(surgery::plan_bytes(plan, width, false)));
    auto& form = forms.emplace_back();
    for (int k = 0; k < copies; ++k)
      form.push_back(surgery::split(s.ffn, plan.layers[0], s.census));
  }
  const auto x = s.inputs.slice(0, 0, 1).contiguous();
  const lm::Points no_points(nullptr);
  std::vector<std::function<void()>> candidates;
  for (const auto& form : forms)
    candidates.push_back([&] {
      for (const auto& layer : form) lm::feed_forward(s.config, layer, x, no_points);
    });
  const auto times = time_interleaved(candidates, rounds, 5);
  for (size_t f = 0; f < forms.size(); ++f) {
    out.seconds.push_back(times.median_seconds(f) / copies);
    out.times_f32.push_back(times.ratio(0, f)), out.times_bf16.push_back(times.ratio(1, f));
  }
  ThreadPool threads;
  out.bandwidth = measure_read_bandwidth(threads, read);
  return out;
}

/// Claim 6.
void speed(study::Lab& lab) {
  const auto width = lab.by_scale<int64_t>(256, 2048, 4096);
  const auto t = lab.part("one token, cold", [&] {
    return time_forms(width, lab.by_scale(1, 4, 4), lab.by_scale(5, 100, 200),
                      size_t{1} << lab.by_scale(24, 30, 30));
  });
  auto table = lab.table(fmt::format("one token through an FFN of {} x {}, relu", width, 4 * width),
                         {"form", "MB", "ms", "GB/s", "times f32", "of the speed its bytes allow"});
  double bound = 0;
  for (size_t f = 0; f < t.bytes.size(); ++f) {
    bound = t.bytes[f] / t.bandwidth / t.seconds[f];
    table.row(kTimed[f], t.bytes[f] / 1e6, 1e3 * t.seconds[f], t.bytes[f] / t.seconds[f] / 1e9,
              t.times_f32[f], bound);
  }
  lab.claim("speed of the split over f32, one token")
      .paper("1.25 to 1.56")
      .measured(t.times_f32.back())
      .at_least(1.56);
  lab.claim("speed of the split over bf16, one token")
      .paper("1.25 to 1.56")
      .measured(t.times_bf16.back())
      .at_least(1.56);
  lab.claim("the split's share of the speed its bytes allow")
      .paper("")
      .measured(bound)
      .at_least(0.9);
}

void run(study::Lab& lab) {
  torch::NoGradGuard no_grad;
  on_synthetic(lab);
  k_quants(lab);
  OnModels models(lab);
  for (const char* name : {"opt-classics", "llama-classics"})
    if (auto subject = study::find_subject(lab, name)) models.run(*subject);
  speed(lab);
  lab.not_shown(
      "GLUE accuracy of fine-tuned BERT",
      "no fine-tuned checkpoint ships; cajal split MODEL --plan heavy=q8_0,rest=q4_0 splits yours");
  lab.note("Block formats are compared with ggml's bytes in tests/kernels.");
}

const auto registered = study::add({.slug = "ffsplit"}, run);
}  // namespace
