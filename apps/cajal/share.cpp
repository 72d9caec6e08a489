#include "cajal/surgery/share.h"

#include <iostream>

#include "../verb.h"
#include "cajal/atlas/text.h"
#include "cajal/models/lm/checkpoint.h"
#include "cajal/models/lm/generate.h"
#include "cajal/surgery/write.h"

namespace cajal {
namespace {

namespace fs = std::filesystem;

struct Options {
  std::string model, plan, text, output;
  int64_t networks = 0, tune = 0;
  uint64_t seed = 0;
  bool plain = false;
};

void print(const std::vector<std::vector<double>>& likeness) {
  std::cerr << "likeness of what the FFNs write (linear CKA)\n";
  for (size_t i = 0; i < likeness.size(); ++i) {
    std::cerr << fmt::format("  layer {:>2} ", i);
    for (const double value : likeness[i]) std::cerr << fmt::format(" {:.2f}", value);
    std::cerr << '\n';
  }
}

void share(const Options& o) {
  require((o.networks > 0) != !o.plan.empty(), "share: give one of --networks and --plan");
  require(!o.text.empty() || (o.networks == 0 && o.tune == 0),
          "share: --networks and --tune need --text");
  require(o.tune >= 0, "share: --tune is {}, expected steps", o.tune);
  require(!fs::exists(o.output) || fs::is_empty(o.output),
          "{}: is there already, expected a new folder", o.output);
  set_torch_threads(0);
  const auto folder = lm::find_model(o.model);
  auto model = lm::load(folder);
  require(model->layout.empty(),
          "{}: is split, quantised or shared already, expected a plain model", folder.string());
  const auto layers = model->config.layers;
  require(o.networks <= layers, "share: {} networks for {} layers, expected 1 to {}", o.networks,
          layers, layers);
  std::optional<atlas::Reading> reading;
  if (!o.text.empty())
    reading = atlas::read_text(folder, model->config.vocabulary, o.text, 262'144);
  surgery::SharePlan plan;
  if (o.networks > 0) {
    const auto likeness = surgery::ffn_likeness(model, reading->ids, 4096);
    print(likeness);
    plan = surgery::propose(likeness, o.networks);
  } else {
    plan = surgery::SharePlan::parse(o.plan, layers);
  }
  auto form = surgery::shared(model, plan, !o.plain);
  if (o.tune > 0) surgery::tune(form, plan, reading->ids, {.steps = o.tune, .seed = o.seed});
  std::cerr << fmt::format("plan {}\nFFN parameters {} -> {}\n", plan.text(),
                           surgery::ffn_parameters(model, surgery::SharePlan::own(layers)),
                           surgery::ffn_parameters(form, plan));
  surgery::write(form, folder, o.output);
  std::cerr << "written to " << o.output << "; cajal eval and cajal train --init take it\n";
}

void setup(CommandLine& app, int&) {
  auto o = std::make_shared<Options>();
  app.add_option("MODEL", o->model, "checkpoint folder")->required();
  app.add_option("--networks", o->networks, "FFNs to keep; layers that write alike share one");
  app.add_option("--plan", o->plan, "own, none or shared:GROUP for each layer, by commas");
  app.add_option("--text", o->text, "to compare layers on and to tune with");
  app.add_option("--tune", o->tune, "steps of training after the sharing");
  app.add_flag("--plain", o->plain, "average without putting neurons in order first");
  app.add_option("--seed", o->seed, "of the tuning")->capture_default_str();
  app.add_option("--output", o->output, "new checkpoint folder")->required();
  app.callback([o] { share(*o); });
}

const auto registered =
    verbs().add("share", {"layers share or drop feed-forward networks: a new checkpoint", setup});

}  // namespace
}  // namespace cajal
