
#include "cajal/atlas/measure.h"
#include "cajal/core/timing.h"
#include "cajal/kernels/limits.h"
#include "cajal/models/lm/block.h"
#include "cajal/models/lm/summary.h"
#include "cajal/study/subject.h"
#include "cajal/surgery/errors.h"
#include "cajal/surgery/predictor.h"
#include "cajal/surgery/sparsity.h"
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
  double bits_per_byte, change, error, cut;
};

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
    dense_ = s.bits_per_byte(s.model);
    stability_and_energy(s);
    ablation(s);
    plans(s);
    sparse(s);
  }

 private:
  Row row(const Subject& s, const std::string& label, const surgery::Plan& plan,
          bool rest_in_8_bits = false) {
    auto form = s.copy();
    surgery::split(form, plan, s.census);
    if (rest_in_8_bits) surgery::requantise(form, {Format::q8_0, Format::q8_0});
    auto dense = s.model;
    const double bpb = s.bits_per_byte(form);
    const auto errors = surgery::output_errors(dense, form, s.calibration, 2048);
    double error = 0;
    for (const double e : errors) error += e / static_cast<double>(errors.size());
    // Factors of a low rank are multiplied out in memory: the plan knows their bytes.
    const auto other = lm::summarise(form).stored_bytes - ffn_stored(form);
    const double stored = static_cast<double>(other + bytes_of(s, plan));
    const double full = 2.0 * static_cast<double>(lm::summarise(dense).parameters);
    const Row out{bpb, bpb / dense_ - 1, error, 1 - stored / full};
    plans_.row(s.name, label, surgery::plan_bits(plan, s.config().width, s.config().gated),
               static_cast<double>(bytes_of(s, plan)) / 1e6, stored / 1e6, out.cut, bpb, out.change,
               error);
    return out;
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
    const auto half = s.calibration.size() / 2;
    const std::span ids(s.calibration);
    const auto a = atlas::measure(s.model, ids.first(half)),
               b = atlas::measure(s.model, ids.subspan(half));
    double sum = 0;
    for (size_t l = 0; l < s.census.layers.size(); ++l) {
      const auto heavy = [&](const atlas::LayerCensus& layer) {
        auto order = surgery::ranking(layer, Score::hits, 0);
        order.resize(static_cast<size_t>(surgery::heavy_count(layer.neurons, 0.25)));
        return order;
      };
      const auto& layer = s.census.layers[l];
      const double overlap = surgery::jaccard(heavy(a.layers[l]), heavy(b.layers[l]));
      const auto share = [&](double r) {
        return surgery::forecast(layer, Score::hits, r, Format::q8_0, Format::q4_0).share;
      };
      energy_.row(s.name, std::to_string(l), share(0.05), share(0.10), share(0.25), share(0.50),
                  overlap);
      sum += overlap / static_cast<double>(s.census.layers.size());
    }
    lab_.claim(s.name + ": heavy hitters are the same on two halves of the text (Jaccard)")
        .paper("stable")
        .measured(sum)
        .at_least(0.8);
  }

  void ablation(Subject& s) {
    const auto silenced = [&](Score score, bool bottom) {
      auto form = s.copy();
      for (size_t l = 0; l < form->blocks.size(); ++l) {
        auto order = surgery::ranking(s.census.layers[l], score, 100 + l);
        if (bottom) std::reverse(order.begin(), order.end());
        order.resize(order.size() / 20);
        form->blocks[l].ffn = surgery::silence(form->blocks[l].ffn, order);
      }
      return s.bits_per_byte(form);
    };
    const double top = silenced(Score::hits, false), random = silenced(Score::random, false);
    ablation_.row(s.name, dense_, top, random, silenced(Score::hits, true));
    lab_.claim(s.name + ": silencing the top 5 % costs this many times a random 5 %")
        .paper("far more")
        .measured((top - dense_) / std::max(1e-6, random - dense_))
        .at_least(5);
  }

  void plans(Subject& s) {
    for (const char* uniform : {"all=q8_0", "all=q5_0", "all=q4_1", "all=q4_0"})
      row(s, uniform, plan_of(s, uniform));
    if (s.config().width % 256 == 0) row(s, "keys q4_K, values q6_K", plan_of(s, "all=q4_K/q6_K"));
    row(s, "SVD of all, rank 0.3", plan_of(s, "all=svd:0.3"));
    row(s, "heavy f16, rest SVD 0.2", plan_of(s, "heavy=f16,rest=svd:0.2"));
    row(s, "heavy f16, rest dropped", plan_of(s, "heavy=f16,rest=drop"));
    for (const double ratio : {0.10, 0.50})
      row(s, fmt::format("split q8_0/q4_0, r {}", ratio),
          plan_of(s, "heavy=q8_0,rest=q4_0", {.ratio = ratio}));
    const auto split = row(s, "split q8_0/q4_0, r 0.25", plan_of(s, "heavy=q8_0,rest=q4_0"));
    std::vector<double> random;
    for (const auto seed : lab_.seeds())
      random.push_back(row(s, fmt::format("random q8_0/q4_0, seed {}", seed),
                           plan_of(s, "random=q8_0,rest=q4_0", {.seed = seed}))
                           .bits_per_byte);
    const auto inverse = row(s, "inverse q8_0/q4_0", plan_of(s, "inverse=q8_0,rest=q4_0"));
    const double mean = study::Figure(random).mean();
    lab_.claim(s.name + ": bits a byte, split < random < inverse")
        .paper("yes")
        .holds(split.bits_per_byte < mean && mean < inverse.bits_per_byte);

    auto dense = s.model;
    const auto choices = surgery::measure_errors(dense, s.census, s.calibration);
    double worst = 0;
    for (size_t f = 0; f < choices.formats.size(); ++f) {
      const auto uniform = surgery::uniform_cost(choices, f);
      const auto plan = surgery::plan_for_budget(choices, uniform.bytes);
      worst = std::max(worst, surgery::cost(choices, plan).error / uniform.error);
      row(s, fmt::format("planned, bytes of {}", to_name(choices.formats[f])), plan);
    }
    lab_.claim(s.name +
               ": the planner's calibration error over that of one format of equal bytes, worst")
        .paper("")
        .measured(worst)
        .at_most(1);
    const auto budget = bytes_of(s, plan_of(s, "all=q5_0"));
    const auto best = row(s, "planned, bytes of q5_0; attention and embedding q8_0",
                          surgery::plan_for_budget(choices, budget), true);
    lab_.claim(s.name + ": model size cut against 16 bits")
        .paper("43.1 %")
        .measured(best.cut)
        .in_percent()
        .at_least(0.431);
    lab_.claim(s.name + ": bits a byte lost by that model")
        .paper("negligible")
        .measured(best.change)
        .in_percent()
        .at_most(0.01);
  }

  void sparse(Subject& s) {
    const auto add = [&](const std::string& method, double left_out, study::Cell recall,
                         lm::Hooks& hooks, const std::function<double()>& measured) {
      const double bpb = s.bits_per_byte(s.model, &hooks);
      sparse_.row(s.name, method, measured ? measured() : left_out, recall, bpb, bpb / dense_ - 1);
    };
    for (const double share : {0.25, 0.40, 0.50})
      for (const auto rule : {surgery::SparseRule::teal, surgery::SparseRule::cats}) {
        if (rule == surgery::SparseRule::cats && !s.config().gated) continue;
        lm::Hooks hooks;
        surgery::SparseCount count;
        surgery::attach(hooks, s.model, rule,
                        surgery::find_thresholds(s.model, rule, share, s.calibration), count);
        add(fmt::format("{} {:.0f} %", rule == surgery::SparseRule::teal ? "TEAL" : "CATS",
                        100 * share),
            0, "", hooks, [&] { return count.share(); });
      }
    if (s.config().gated) return;
    const auto predictors =
        surgery::train_predictors(s.model, s.calibration,
                                  {.epochs = lab_.by_scale<int64_t>(1, 8, 20),
                                   .tokens = lab_.by_scale<int64_t>(512, 16384, 65536)});
    // PowerInfer: the neurons that fire most, over all layers, are always computed.
    const auto hot = surgery::hot_neurons(s.census, 0.10);
    for (const bool with_hot : {false, true}) {
      lm::Hooks hooks;
      surgery::PredictorCount count;
      surgery::attach(hooks, s.model, predictors, with_hot ? hot : std::vector<torch::Tensor>(),
                      0.5, count);
      const double bpb = s.bits_per_byte(s.model, &hooks);
      sparse_.row(s.name, with_hot ? "PowerInfer: 10 % hot, others predicted" : "Deja Vu predictor",
                  1 - count.density(), count.recall(), bpb, bpb / dense_ - 1);
    }
  }

  study::Lab& lab_;
  study::TableWriter plans_, energy_, ablation_, sparse_;
  double dense_ = 0;
};

/// Claim 1: a split is the same function. Claim 4: the forecast of Build 7 is right.
void on_synthetic(study::Lab& lab) {
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
  lab.claim("a split kept in 32 bits equals the dense FFN (3 laws, 5 scores, r 0 to 1)")
      .paper("exact")
      .measured(largest)
      .at_most(1e-5);

  auto table = lab.table(
      "go or no-go on generated FFNs",
      {"sigma", "r", "s(r)", "needed", "error, split", "error, one format", "forecast", "truth"});
  int right = 0, cases = 0;
  for (const double sigma : {0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0}) {
    const auto s =
        surgery::synthetic_ffn(Activation::relu, false, 128, lab.by_scale(512, 2048, 8192), sigma,
                               lab.by_scale(256, 2048, 8192), 10);
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
    for (const double ratio : kRatios) {
      const auto plan = surgery::make_plan("heavy=q8_0,rest=q4_0", census, {.ratio = ratio});
      const double bits = surgery::plan_bits(plan, 128, false);
      const size_t k = bits > uniform[1].first ? 1 : 0;
      const double t = (bits - uniform[k].first) / (uniform[k + 1].first - uniform[k].first);
      const double other = std::exp((1 - t) * uniform[k].second + t * uniform[k + 1].second);
      const double own = error(plan);
      const auto guess =
          surgery::forecast(s.census, Score::hits, ratio, Format::q8_0, Format::q4_0);
      right += guess.wins() == (own < other), ++cases;
      table.row(sigma, guess.ratio, guess.share, guess.needed, own, other,
                guess.wins() ? "split" : "one", own < other ? "split" : "one");
    }
  }
  lab.claim("the forecast names the winner, share of cases")
      .paper("")
      .measured(static_cast<double>(right) / cases)
      .in_percent()
      .at_least(0.9);
}

/// Claim 6: one token through an FFN of real size, cold.
void speed(study::Lab& lab) {
  const auto width = lab.by_scale<int64_t>(256, 2048, 4096), neurons = 4 * width;
  const int copies = lab.by_scale(1, 4, 4);
  struct Form {
    std::string name;
    std::vector<lm::FeedForward> layers;
  };
  std::vector<Form> forms;
  const auto s = surgery::synthetic_ffn(Activation::relu, false, width, neurons, 1, 8, 3);
  atlas::Census census;
  census.layers = {s.census};
  for (const char* words :
       {"all=f32", "all=bf16", "all=q8_0", "all=q5_0", "all=q4_0", "heavy=q8_0,rest=q4_0"}) {
    auto& form = forms.emplace_back(Form{words, {}});
    const auto plan = surgery::make_plan(words, census);
    for (int k = 0; k < copies; ++k)
      form.layers.push_back(surgery::split(s.ffn, plan.layers[0], s.census));
  }
  const auto x = s.inputs.slice(0, 0, 1).contiguous();
  const lm::Points no_points(nullptr);
  std::vector<std::function<void()>> candidates;
  for (const auto& form : forms)
    candidates.push_back([&] {
      torch::NoGradGuard no_grad;
      for (const auto& layer : form.layers) lm::feed_forward(s.config, layer, x, no_points);
    });
  const auto times = time_interleaved(candidates, lab.by_scale(5, 100, 200), 5);
  ThreadPool threads;
  const double bandwidth = measure_read_bandwidth(threads, size_t{1} << lab.by_scale(24, 30, 30));
  auto table = lab.table(fmt::format("one token through an FFN of {} x {}, relu", width, neurons),
                         {"form", "MB", "ms", "GB/s", "times f32", "of the speed its bytes allow"});
  double bound = 0;
  for (size_t f = 0; f < forms.size(); ++f) {
    const auto bytes = static_cast<double>(
        surgery::plan_bytes(surgery::make_plan(forms[f].name, census), width, false));
    const double seconds = times.median_seconds(f) / copies;
    bound = bytes / bandwidth / seconds;
    table.row(forms[f].name, bytes / 1e6, 1e3 * seconds, bytes / seconds / 1e9, times.ratio(0, f),
              bound);
  }
  const auto last = forms.size() - 1;
  lab.claim("speed of the split over f32, one token")
      .paper("1.25 to 1.56")
      .measured(times.ratio(0, last))
      .at_least(1.56);
  lab.claim("speed of the split over bf16, one token")
      .paper("1.25 to 1.56")
      .measured(times.ratio(1, last))
      .at_least(1.56);
  lab.claim("the split's share of the speed its bytes allow")
      .paper("")
      .measured(bound)
      .at_least(0.9);
}

void run(study::Lab& lab) {
  torch::NoGradGuard no_grad;
  on_synthetic(lab);
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
