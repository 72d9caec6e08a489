#include "cajal/surgery/moefy.h"

#include <iostream>

#include "../verb.h"
#include "cajal/atlas/text.h"
#include "cajal/models/lm/checkpoint.h"
#include "cajal/surgery/share.h"
#include "cajal/surgery/write.h"
#include "split_report.h"

namespace cajal {
namespace {

namespace fs = std::filesystem;

struct Options {
  std::string model, text, output, split = "kmeans", router = "mlp", shares = "even";
  surgery::MoefyOptions moefy;
  int64_t relufy = 0, tune = 0;
  bool json = false;
};

/// No neuron of a law like GELU is ever silent: what experts leave out then costs more.
bool falls_silent(Activation law) {
  return activate(law, torch::full({1}, -100.f)).item<float>() == 0;
}

void print(const std::vector<surgery::MoefyReport>& reports, const lm::ExpertLayout& layout) {
  std::cerr << fmt::format("{:<7}{:>9}{:>10}{:>12}{:>10}{:>14}{:>8}\n", "layer", "fires", "experts",
                           "captured", "mass", "use entropy", "dead");
  for (size_t l = 0; l < reports.size(); ++l) {
    const auto& r = reports[l];
    std::cerr << fmt::format("{:<7}{:>7.1f} %{:>6}/{:<3}{:>10.1f} %{:>8.1f} %{:>14.3f}{:>8}\n", l,
                             100 * r.fired, layout.active[l], layout.count, 100 * r.captured,
                             100 * r.mass, r.use_entropy, r.dead_experts);
  }
}

Json json_of(const std::vector<surgery::MoefyReport>& reports, const lm::ExpertLayout& layout,
             const lm::Summary& before, const lm::Summary& after, const std::string& output) {
  Json layers = Json::array();
  for (size_t l = 0; l < reports.size(); ++l) {
    const auto& r = reports[l];
    layers.push_back({{"active", layout.active[l]},
                      {"fired", r.fired},
                      {"inertia", r.inertia},
                      {"captured", r.captured},
                      {"mass", r.mass},
                      {"use_entropy", r.use_entropy},
                      {"dead_experts", r.dead_experts}});
  }
  return {{"output", output},
          {"experts", layout.count},
          {"router", to_name(layout.router)},
          {"stored_bytes", after.stored_bytes},
          {"bytes_per_token", after.bytes_per_token},
          {"dense_bytes_per_token", before.bytes_per_token},
          {"layers", layers}};
}

void run(Options& o) {
  o.moefy.split = from_name<surgery::ExpertSplit>(o.split, "--split");
  o.moefy.shares = from_name<surgery::LayerShares>(o.shares, "--shares");
  o.moefy.router = from_name<RouterKind>(o.router, "--router");
  o.moefy.training.seed = o.moefy.seed;
  require(o.relufy >= 0 && o.tune >= 0, "moefy: --relufy {} and --tune {}, expected steps",
          o.relufy, o.tune);
  require(o.moefy.tokens >= 2, "moefy: --tokens is {}, expected 2 or more", o.moefy.tokens);
  require(!fs::exists(o.output) || (fs::is_directory(o.output) && fs::is_empty(o.output)),
          "{}: is there already, expected a new folder", o.output);
  set_torch_threads(0);
  const auto folder = lm::find_model(o.model);
  auto model = lm::load(folder);
  surgery::expert_counts(o.moefy, model->config.neurons);  // before anything that takes long
  const int64_t wanted = o.relufy + o.tune > 0 ? 262'144 : o.moefy.tokens;
  const auto reading =
      atlas::read_text(folder, model->config.vocabulary, o.text, std::max(wanted, o.moefy.tokens));
  const auto before = lm::summarise(model);
  const auto type = model->blocks.at(0).ffn.groups.at(0).key.stored().scalar_type();
  if (o.relufy > 0) surgery::relufy(model, reading.ids, o.relufy, o.moefy.seed);
  if (!falls_silent(model->config.law))
    std::cerr << fmt::format(
        "warning: {} neurons never fall silent; --relufy 300 makes them ReLU\n",
        to_name(model->config.law));
  std::vector<surgery::MoefyReport> reports;
  {
    Progress progress("cutting into experts", std::ssize(model->blocks), "layers");
    reports = surgery::moefy(model, reading.ids, o.moefy, &progress);
  }
  for (size_t l = 0; l < reports.size(); ++l)
    if (reports[l].fired > 0.5)
      std::cerr << fmt::format("warning: layer {}: {:.0f} % of the neurons fire on a token\n", l,
                               100 * reports[l].fired);
  if (o.tune > 0) {
    surgery::tune(model, surgery::SharePlan::own(model->config.layers), reading.ids,
                  {.steps = o.tune, .seed = o.moefy.seed});
    surgery::settle(model, type);
  }
  const auto layout = *model->layout.experts;
  surgery::write(model, folder, o.output);
  const auto after = lm::summarise(model);
  if (o.json) {
    fmt::print("{}\n", json_of(reports, layout, before, after, o.output).dump());
    return;
  }
  print(reports, layout);
  std::cerr << sizes_text(before, after) << "written to " << o.output
            << "; cajal eval and cajal generate take it as any model\n";
}

void setup(CommandLine& app, int&) {
  auto o = std::make_shared<Options>();
  auto& m = o->moefy;
  app.add_option("MODEL", o->model, "checkpoint folder, or an embedded model's name")->required();
  app.add_option("--text", o->text, "that routers are trained on: a file (.gz, .xz) or a corpus")
      ->required();
  app.add_option("--output", o->output, "new checkpoint folder")->required();
  app.add_option("--experts", m.experts,
                 "of each layer, equal runs of neurons; 0: of 32 neurons (16 below 1,024)")
      ->capture_default_str();
  auto* ratio = app.add_option("--ratio", m.ratio, "share of the experts that a token uses")
                    ->capture_default_str();
  app.add_option("--active", m.active, "experts that a token uses")->excludes(ratio);
  app.add_option("--split", o->split,
                 "how neurons are grouped: kmeans, coactivation, activity or random")
      ->capture_default_str();
  app.add_option("--shares", o->shares,
                 "of the layers: even, or by_gains, as many in all where they leave out least")
      ->capture_default_str();
  app.add_option("--router", o->router, "how experts are chosen: mlp, similarity or oracle")
      ->capture_default_str();
  app.add_option("--tokens", m.tokens, "of the text that are looked at")->capture_default_str();
  app.add_option("--epochs", m.training.epochs, "of training routers")->capture_default_str();
  app.add_flag("--compensate", m.compensate,
               "add the mean of what is left out to the output bias (models with biases)");
  app.add_option("--relufy", o->relufy, "steps of training with ReLU neurons before the cut");
  app.add_option("--tune", o->tune, "steps of training with the experts after the cut");
  app.add_option("--seed", m.seed)->capture_default_str();
  app.add_flag("--json", o->json, "print one JSON object");
  app.callback([=] { run(*o); });
}

const auto registered = verbs().add(
    "moefy", {"feed-forward networks cut into experts behind routers: a new checkpoint", setup});

}  // namespace
}  // namespace cajal
