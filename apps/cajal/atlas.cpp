#include <iostream>

#include "../verb.h"
#include "atlas_build.h"
#include "atlas_report.h"
#include "cajal/atlas/store.h"
#include "cajal/core/files.h"

namespace cajal {
namespace {

namespace fs = std::filesystem;

void setup_show(CommandLine& app) {
  struct Options {
    std::string file;
    int64_t layer = 0, neuron = -1;
    bool json = false;
  };
  auto o = std::make_shared<Options>();
  app.add_option("ATLAS", o->file, "from cajal atlas build")->required();
  auto* layer = app.add_option("--layer", o->layer, "counted from 0");
  app.add_option("--neuron", o->neuron, "one neuron of that layer")->needs(layer);
  app.add_flag("--json", o->json, "one JSON object on stdout");
  app.callback([o, layer] {
    const auto census = atlas::load(o->file);
    const auto findings = atlas::load_findings(o->file);
    const auto* found = findings ? &*findings : nullptr;
    const bool one = o->neuron >= 0 || layer->count() > 0;
    require(!one || o->neuron >= 0,
            "--layer {} needs --neuron N; without both, every layer is shown", o->layer);
    if (o->json)
      std::cout << (one ? neuron_json(census, found, o->layer, o->neuron)
                        : layers_json(census, found))
                       .dump(-1, ' ', false, Json::error_handler_t::replace)
                << "\n";
    else
      std::cout << (one ? neuron_text(census, found, o->layer, o->neuron) : layer_table(census));
  });
}

void setup_report(CommandLine& app) {
  struct Options {
    std::string file, output;
    bool json = false;
  };
  auto o = std::make_shared<Options>();
  app.add_option("ATLAS", o->file, "from cajal atlas build")->required();
  app.add_option("--output", o->output, "HTML file; by default ATLAS with the ending .html");
  app.add_flag("--json", o->json, "figures as one JSON object on stdout instead");
  app.callback([o] {
    const auto census = atlas::load(o->file);
    const auto findings = atlas::load_findings(o->file);
    const auto* found = findings ? &*findings : nullptr;
    if (o->json) {
      std::cout << report_json(census, found).dump(-1, ' ', false, Json::error_handler_t::replace)
                << "\n";
      if (o->output.empty()) return;
    }
    const fs::path output =
        o->output.empty() ? fs::path(o->file).replace_extension(".html") : fs::path(o->output);
    write_file(output, atlas_page(census, found));
    fmt::print(stderr, "{}\nwritten to {}\n", layer_table(census), output.string());
  });
}

void setup(CommandLine& app, int&) {
  app.require_subcommand(1);
  setup_atlas_build(
      *app.add_subcommand("build", "one pass over a text: what each FFN neuron does"));
  setup_atlas_merge(*app.add_subcommand("merge", "join atlases of parts of one text, exactly"));
  setup_atlas_match(*app.add_subcommand("match", "which neurons other models have too"));
  setup_show(*app.add_subcommand("show", "layers, or one neuron and its strongest words"));
  setup_report(*app.add_subcommand("report", "pictures and their meaning as one HTML file"));
}

const auto registered = verbs().add("atlas", {"what each neuron of a model does", setup});

}  // namespace
}  // namespace cajal
