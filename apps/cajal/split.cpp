#include "cajal/surgery/split.h"

#include <charconv>
#include <iostream>

#include "../verb.h"
#include "cajal/atlas/measure.h"
#include "cajal/atlas/store.h"
#include "cajal/atlas/text.h"
#include "cajal/core/json.h"
#include "cajal/models/lm/checkpoint.h"
#include "cajal/surgery/errors.h"
#include "cajal/surgery/write.h"
#include "split_report.h"

namespace cajal {
namespace {

namespace fs = std::filesystem;

struct Options {
  std::string model, plan, plan_file, budget, atlas, text, output, score = "hits";
  std::string attention, embedding;
  double ratio = 0.25;
  uint64_t seed = 0;
};

// "4000000", "4.2M", "30%" or "0.3" of the bytes that the FFNs take in 16 bits.
int64_t read_budget(const std::string& text, int64_t in_16_bits) {
  double number = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), number);
  const std::string unit(end, text.data() + text.size());
  require(code == std::errc() && number > 0,
          "--budget {}: expected bytes (4000000, 4.2M) or a share of the FFNs in 16 bits (30%)",
          text);
  const auto share = static_cast<double>(in_16_bits);
  if (unit == "%") return static_cast<int64_t>(number / 100 * share);
  if (unit.empty() && number <= 1) return static_cast<int64_t>(number * share);
  for (const auto& [name, factor] : {std::pair("", 1.0), {"K", 1e3}, {"M", 1e6}, {"G", 1e9}})
    if (unit == name) return static_cast<int64_t>(number * factor);
  fail("--budget {}: unit '{}' is not one of %, K, M, G", text, unit);
}

void check(const Options& o) {
  const int ways = !o.plan.empty() + !o.plan_file.empty() + !o.budget.empty();
  require(o.ratio >= 0 && o.ratio <= 1, "split: --ratio is {}, expected 0 to 1", o.ratio);
  require(ways == 1, "split: expected one of --plan, --plan-file and --budget, got {}", ways);
  require(o.budget.empty() || !o.text.empty(), "split: --budget needs --text to measure errors on");
  require(o.plan.find("asvd") == std::string::npos || !o.text.empty(),
          "split: --plan {} needs --text F to weigh by", o.plan);
  const bool looks = o.plan.starts_with("heavy") || o.plan.starts_with("inverse");
  require(
      !looks || o.score == "weight" || o.score == "random" || !o.atlas.empty() || !o.text.empty(),
      "split: --plan {} needs --atlas A.db or --text F to find the heavy neurons", o.plan);
}

atlas::Census find_census(const Options& o, lm::Transformer& model, const atlas::Reading* reading) {
  if (!o.atlas.empty()) {
    auto census = atlas::load(o.atlas);
    require(census.model_hash == atlas::fingerprint(model), "{}: atlas of another model than {}",
            o.atlas, o.model);
    return census;
  }
  if (!reading) return atlas::blank(model);
  Progress progress("atlas", std::ssize(reading->ids), "tokens");
  return atlas::measure(model, reading->ids, {}, &progress);
}

surgery::Plan plan_by_errors(const Options& o, lm::Transformer& model, const atlas::Census& census,
                             const atlas::Reading& reading) {
  auto how = surgery::fine_errors();
  how.score = from_name<surgery::Score>(o.score, "--score"), how.seed = o.seed;
  int64_t weights = 0;
  for (const auto& layer : census.layers) weights += layer.neurons;
  weights *= model->config.width * (model->config.gated ? 3 : 2);
  const int64_t budget = read_budget(o.budget, 2 * weights);
  const auto [best, plain] = surgery::best_for_budget(model, census, reading.ids, budget, how);
  fmt::print(stderr, "calibration error {:.3g} in {} of {} bytes ({:.2f} % left)", best.error,
             best.bytes, budget, 100 - 100.0 * static_cast<double>(best.bytes) / budget);
  if (!plain.plan.layers.empty())
    fmt::print(stderr, "; {} {:.3g} in {}", plain.plan.name, plain.error, plain.bytes);
  fmt::print(stderr, "\n");
  return best.plan;
}

surgery::Plan find_plan(const Options& o, lm::Transformer& model, const atlas::Census& census,
                        const atlas::Reading* reading) {
  const auto score = from_name<surgery::Score>(o.score, "--score");
  if (!o.plan.empty())
    return surgery::make_plan(o.plan, census, {.score = score, .ratio = o.ratio, .seed = o.seed});
  if (!o.plan_file.empty()) {
    std::vector<int64_t> neurons;
    for (const auto& layer : census.layers) neurons.push_back(layer.neurons);
    return surgery::Plan::from_json(read_json(o.plan_file), neurons, o.plan_file);
  }
  return plan_by_errors(o, model, census, *reading);
}

void split(const Options& o) {
  check(o);
  set_torch_threads(0);
  require(!fs::exists(o.output) || fs::is_empty(o.output),
          "{}: is there already, expected a new folder", o.output);
  const auto folder = lm::find_model(o.model);
  auto model = lm::load(folder);
  const auto before = lm::summarise(model);
  std::optional<atlas::Reading> reading;
  if (!o.text.empty()) reading = atlas::read_text(folder, model->config.vocabulary, o.text, 32768);
  const auto census = find_census(o, model, reading ? &*reading : nullptr);
  if (census.tokens() > 0)
    std::cerr << forecast_table(census, from_name<surgery::Score>(o.score, "--score")) << '\n';
  const auto plan = find_plan(o, model, census, reading ? &*reading : nullptr);
  std::cerr << plan_table(plan) << '\n';
  std::vector<surgery::Moments> moments;
  if (o.plan.find("asvd") != std::string::npos)
    moments = surgery::measure_moments(model, reading->ids);
  surgery::split(model, plan, census, moments);
  surgery::WriteOptions formats;
  if (!o.attention.empty()) formats.attention = from_name<Format>(o.attention, "--attention");
  if (!o.embedding.empty()) formats.embedding = from_name<Format>(o.embedding, "--embedding");
  surgery::requantise(model, formats);
  surgery::write(model, folder, o.output);
  write_json(fs::path(o.output) / "plan.json", plan.json(), -1);
  std::cerr << sizes_text(before, lm::summarise(model)) << "written to " << o.output
            << "; cajal eval and cajal generate take it as any model\n";
}

void setup(CommandLine& app, int&) {
  auto o = std::make_shared<Options>();
  app.add_option("MODEL", o->model, "checkpoint folder or GGUF file")->required();
  app.add_option(
      "--plan", o->plan,
      "heavy=q8_0,rest=q4_0 | all=q5_0 | mix=q4_K,values=q6_K | random=... | inverse=...");
  app.add_option("--plan-file", o->plan_file, "a plan as JSON");
  app.add_option("--budget", o->budget, "bytes for the FFNs (4.2M), or a share of 16 bits (30%)");
  app.add_option("--atlas", o->atlas, "of this model, from cajal atlas build");
  app.add_option("--text", o->text, "calibration text, when there is no atlas, and for --budget");
  app.add_option("--score", o->score, "hits, mean_norm, energy, weight or random")
      ->capture_default_str();
  app.add_option("--ratio", o->ratio, "share of the neurons that are heavy")->capture_default_str();
  app.add_option("--seed", o->seed, "of random sets")->capture_default_str();
  app.add_option("--attention", o->attention, "format of the attention matrices");
  app.add_option("--embedding", o->embedding, "format of the embedding and the vocabulary");
  app.add_option("--output", o->output, "new checkpoint folder")->required();
  app.callback([o] { split(*o); });
}

const auto registered =
    verbs().add("split", {"heavy neurons in many bits, the rest in few: a new checkpoint", setup});

}  // namespace
}  // namespace cajal
