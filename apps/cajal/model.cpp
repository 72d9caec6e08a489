#include "../verb.h"
#include "cajal/core/timing.h"
#include "cajal/models/lm/summary.h"
#include "language_model.h"

namespace cajal {
namespace {

struct ModelArguments {
  std::string folder;
  bool json = false;
};

std::string word(const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (!value.is_array()) return value.dump();
  std::string all;
  for (const auto& item : value) all += (all.empty() ? "" : ", ") + word(item);
  return all;
}

void print_readable(const Json& json) {
  for (const auto& [key, value] : json.items()) {
    std::string shown = word(value);
    if (key.ends_with("_bytes") || key == "bytes_per_token")
      shown = readable_bytes(value.get<int64_t>());
    if (key == "ffn_share") shown = fmt::format("{:.1f} %", 100 * value.get<double>());
    fmt::print("{:<16} {}\n", key, shown);
  }
}

void print(const Json& json, bool as_json) {
  if (as_json) return fmt::print("{}\n", json.dump());
  print_readable(json);
}

void info(const ModelArguments& arguments) {
  auto opened = open_language_model(arguments.folder);
  auto json = lm::describe(opened.model);
  if (opened.tokenizer) {
    json["tokenizer"] = fmt::format("{} tokens", opened.tokenizer->size());
  } else {
    json["tokenizer"] = "none";
  }
  print(json, arguments.json);
}

void verify(const ModelArguments& arguments, int& exit_code) {
  const Stopwatch watch;
  auto opened = open_language_model(arguments.folder);
  const auto& file = *opened.model->file;
  const auto bad = lm::not_finite(opened.model);
  Json json = {{"family", to_name(opened.model->config.family)},
               {"file", file.path().string()},
               {"tensors", file.tensors().size()},
               {"tensor_bytes", file.total_bytes()},
               {"finite", bad.empty()}};
  if (!bad.empty()) json["not_finite"] = bad;
  json["seconds"] = watch.seconds();
  print(json, arguments.json);
  if (bad.empty()) return;
  fmt::print(stderr, "cajal: {}: tensor '{}' holds values that are not finite\n",
             file.path().string(), bad[0]);
  exit_code = 1;
}

void setup(CommandLine& app, int& exit_code) {
  app.require_subcommand(1);
  const auto arguments = std::make_shared<ModelArguments>();
  const auto add = [&](const char* name, const char* summary) {
    auto* sub = app.add_subcommand(name, summary);
    sub->add_option("MODEL", arguments->folder,
                    "checkpoint folder, GGUF file, or an embedded model's name")
        ->required();
    sub->add_flag("--json", arguments->json, "print one JSON object");
    return sub;
  };
  add("info", "family, shapes, share of the feed-forward networks, tokenizer")->callback([=] {
    info(*arguments);
  });
  add("verify", "every tensor accounted for, of the right shape, and finite")
      ->callback([=, &exit_code] { verify(*arguments, exit_code); });
}

const auto registered =
    verbs().add("model", {"what a checkpoint is, and whether it is sound", setup});

}  // namespace
}  // namespace cajal
