#include <iostream>

#include "atlas_report.h"
#include "cajal/atlas/measure.h"
#include "cajal/atlas/store.h"
#include "cajal/atlas/text.h"
#include "cajal/core/files.h"
#include "cajal/core/timing.h"
#include "cajal/core/torch.h"
#include "cajal/models/lm/checkpoint.h"
#include "verb.h"

namespace cajal {
namespace {

namespace fs = std::filesystem;

struct Build {
  std::string model, text, output, shard = "1/1";
  int64_t tokens = 32768;
  atlas::MeasureOptions options;
};

void read_shard(const std::string& text, atlas::MeasureOptions& options) {
  const auto slash = text.find('/');
  try {
    size_t used = 0, used_more = 0;
    const auto first = text.substr(0, slash), second = text.substr(slash + 1);
    options.shard = std::stoll(first, &used), options.shards = std::stoll(second, &used_more);
    if (slash != std::string::npos && used == first.size() && used_more == second.size()) return;
  } catch (const std::exception&) {
  }
  fail("--shard {}: expected PART/PARTS, for example 2/4", text);
}

void build(Build& from) {
  read_shard(from.shard, from.options);
  const auto folder = fs::absolute(lm::find_model(from.model)).lexically_normal();
  auto model = lm::load(folder);
  set_torch_threads(0);
  const auto reading = atlas::read_text(folder, model->config.vocabulary, from.text, from.tokens);
  const Stopwatch watch;
  auto census = [&] {
    const auto share = std::ssize(reading.ids) / std::max<int64_t>(1, from.options.shards);
    Progress progress("atlas", share, "tokens");
    return atlas::measure(model, reading.ids, from.options, &progress);
  }();
  census.model = (folder.has_filename() ? folder : folder.parent_path()).filename().string();
  census.text = reading.name;
  atlas::add_contexts(census, reading);
  atlas::save(census, from.output);
  fmt::print(stderr, "{}\n{} tokens in {:.1f} s, written to {}\n", layer_table(census),
             census.tokens(), watch.seconds(), from.output);
}

void setup_build(CLI::App& app) {
  auto from = std::make_shared<Build>();
  app.add_option("MODEL", from->model, "checkpoint folder or GGUF file")->required();
  app.add_option("--text", from->text, "text file")->required();
  app.add_option("--output", from->output, "the atlas, an SQLite file")->required();
  app.add_option("--tokens", from->tokens, "of the text; 0 = all")->capture_default_str();
  app.add_option("--context", from->options.context, "tokens a window; 0 = 512 or the model's");
  app.add_option("--batch", from->options.batch, "windows in one go")->capture_default_str();
  app.add_option("--samples", from->options.samples, "tokens whose activations are kept")
      ->capture_default_str();
  app.add_option("--seed", from->options.seed, "of the sample")->capture_default_str();
  app.add_option("--shard", from->shard, "PART/PARTS: count only this part of the text")
      ->capture_default_str();
  app.callback([from] { build(*from); });
}

void setup_merge(CLI::App& app) {
  auto files = std::make_shared<std::vector<std::string>>();
  auto output = std::make_shared<std::string>();
  app.add_option("FILES", *files, "atlases of parts of one text")->required()->expected(1, -1);
  app.add_option("--output", *output, "the atlas of all")->required();
  app.callback([files, output] {
    auto census = atlas::load(files->front());
    for (size_t k = 1; k < files->size(); ++k)
      census =
          atlas::merge(std::move(census), atlas::load((*files)[k]), files->front(), (*files)[k]);
    atlas::save(census, *output);
    fmt::print(stderr, "{}\n", layer_table(census));
  });
}

void setup_show(CLI::App& app) {
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
    const bool one = o->neuron >= 0 || layer->count() > 0;
    require(!one || o->neuron >= 0,
            "--layer {} needs --neuron N; without both, every layer is shown", o->layer);
    if (o->json)
      std::cout << (one ? neuron_json(census, o->layer, o->neuron) : layers_json(census)).dump()
                << "\n";
    else
      std::cout << (one ? neuron_text(census, o->layer, o->neuron) : layer_table(census));
  });
}

void setup_report(CLI::App& app) {
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
    if (o->json) {
      std::cout << layers_json(census).dump() << "\n";
      if (o->output.empty()) return;
    }
    const fs::path output =
        o->output.empty() ? fs::path(o->file).replace_extension(".html") : fs::path(o->output);
    write_file(output, atlas_page(census));
    fmt::print(stderr, "{}\nwritten to {}\n", layer_table(census), output.string());
  });
}

void setup(CLI::App& app, int&) {
  app.require_subcommand(1);
  setup_build(*app.add_subcommand("build", "one pass over a text: what each FFN neuron does"));
  setup_merge(*app.add_subcommand("merge", "join atlases of parts of one text, exactly"));
  setup_show(*app.add_subcommand("show", "layers, or one neuron and its strongest words"));
  setup_report(*app.add_subcommand("report", "pictures and their meaning as one HTML file"));
}

const auto registered = verbs().add("atlas", {"what each neuron of a model does", setup});

}  // namespace
}  // namespace cajal
