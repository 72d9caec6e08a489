#include "../verb.h"
#include "cajal/core/torch.h"
#include "cajal/train/language_model.h"

namespace cajal {
namespace {

struct Arguments {
  std::string config, output, device = "auto", init;
  std::vector<std::string> overrides;
  bool resume = false, json = false;
  int threads = 0;
};

// "trainer.steps=100" sets one value: JSON where it reads as JSON, else a string.
void apply_override(Json& json, const std::string& text) {
  const size_t equals = text.find('=');
  require(equals != std::string::npos && equals > 0, "--override {}: expected key=value", text);
  Json* place = &json;
  for (size_t begin = 0; begin < equals;) {
    const size_t dot = std::min(text.find('.', begin), equals);
    require(place->is_object() || place->is_null(), "--override {}: '{}' is no object", text,
            text.substr(0, begin ? begin - 1 : 0));
    place = &(*place)[text.substr(begin, dot - begin)];
    begin = dot + 1;
  }
  const auto value = text.substr(equals + 1);
  *place = Json::accept(value) ? parse_json(value, "--override " + text) : Json(value);
}

void train_from(const Arguments& arguments, const std::string& command) {
  Json config = read_json(arguments.config);
  for (const auto& text : arguments.overrides) apply_override(config, text);
  const auto options = options::parse<train::LanguageModelOptions>(config, arguments.config);
  const std::filesystem::path output =
      arguments.output.empty()
          ? std::filesystem::path("runs") / std::filesystem::path(arguments.config).stem()
          : std::filesystem::path(arguments.output);
  set_torch_threads(arguments.threads);
  const auto report = train::train_language_model(
      options, {output, arguments.resume, arguments.device, arguments.init, command});
  if (arguments.json) {
    fmt::print("{}\n", report.dump());
    return;
  }
  fmt::print("{}: step {}, {:.1f} M tokens, {:.0f} tokens/s, training loss {:.4f}\n",
             output.string(), report.at("steps").get<int64_t>(),
             report.at("tokens").get<double>() / 1e6, report.at("tokens_per_second").get<double>(),
             report.at("training_loss").get<double>());
  for (const char* split : {"valid", "test"})
    if (report.contains(split) && report.at(split).contains("bits_per_byte"))
      fmt::print("{:5}  {:.4f} bits per byte, perplexity {:.2f}\n", split,
                 report.at(split).at("bits_per_byte").get<double>(),
                 report.at(split).at("perplexity").get<double>());
  if (report.at("stopped").get<bool>())
    fmt::print("stopped; go on with:  {}{}\n", command, arguments.resume ? "" : " --resume");
}

void setup(CommandLine& app, int&) {
  const auto arguments = std::make_shared<Arguments>();
  app.add_option("config", arguments->config, "training config, see configs/ and docs/training.md")
      ->required();
  app.add_option("--output", arguments->output, "folder to make (default: runs/NAME)");
  app.add_flag("--resume", arguments->resume,
               "go on from the last checkpoint in the output folder");
  app.add_option("--device", arguments->device, "auto, cpu, cuda or cuda:N");
  app.add_option("--init", arguments->init, "checkpoint folder to start from");
  app.add_option("--override", arguments->overrides, "key=value, e.g. trainer.steps=100");
  app.add_option("--threads", arguments->threads, "threads of the CPU (default: all)");
  app.add_flag("--json", arguments->json, "print one JSON object");
  app.callback([arguments] {
    std::string command = fmt::format("cajal train {}", arguments->config);
    if (!arguments->output.empty()) command += " --output " + arguments->output;
    if (!arguments->init.empty()) command += " --init " + arguments->init;
    for (const auto& text : arguments->overrides) command += " --override " + text;
    train_from(*arguments, command);
  });
}

const auto registered =
    verbs().add("train", {"train a language model, from scratch or from a checkpoint", setup});

}  // namespace
}  // namespace cajal
