#include "cajal/core/files.h"
#include "cajal/text/bpe_trainer.h"

namespace cajal::text {

std::string to_tokenizer_json(const TrainedBpe& trained, const BpeTrainerOptions& options) {
  const auto quoted = [](const std::string& text) { return Json(text).dump(); };
  const auto byte_level = [](bool use_regex) {
    return Json{{"type", "ByteLevel"},
                {"add_prefix_space", false},
                {"trim_offsets", true},
                {"use_regex", use_regex}};
  };
  Json added = Json::array();
  for (size_t id = 0; id < options.special.size(); ++id)
    added.push_back({{"id", id},
                     {"content", options.special[id]},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false},
                     {"special", true}});
  Json pre_tokenizer = byte_level(true);
  if (options.pattern != kGpt2Pattern) {
    const Json split = {{"type", "Split"},
                        {"pattern", {{"Regex", options.pattern}}},
                        {"behavior", "Isolated"},
                        {"invert", false}};
    pre_tokenizer = {{"type", "Sequence"}, {"pretokenizers", {split, byte_level(false)}}};
  }
  const Json head = {{"version", "1.0"},
                     {"truncation", nullptr},
                     {"padding", nullptr},
                     {"added_tokens", added},
                     {"normalizer", nullptr},
                     {"pre_tokenizer", pre_tokenizer},
                     {"post_processor", byte_level(true)},
                     {"decoder", byte_level(true)}};
  std::string out = head.dump(2);
  out.erase(out.rfind('\n'));  // the model follows in the same object
  out += R"(,
  "model": {
    "type": "BPE",
    "dropout": null,
    "unk_token": null,
    "continuing_subword_prefix": null,
    "end_of_word_suffix": null,
    "fuse_unk": false,
    "byte_fallback": false,
    "ignore_merges": false,
    "vocab": {)";
  for (size_t id = 0; id < trained.tokens.size(); ++id)
    out += fmt::format("{}\n      {}: {}", id > 0 ? "," : "", quoted(trained.tokens[id]), id);
  out += "\n    },\n    \"merges\": [";
  for (size_t i = 0; i < trained.merges.size(); ++i)
    out += fmt::format("{}\n      {}", i > 0 ? "," : "",
                       quoted(trained.merges[i].first + " " + trained.merges[i].second));
  return out + "\n    ]\n  }\n}\n";
}

void write_tokenizer(const std::filesystem::path& folder, const TrainedBpe& trained,
                     const BpeTrainerOptions& options) {
  Json config = {{"tokenizer_class", "PreTrainedTokenizerFast"},
                 {"add_prefix_space", false},
                 {"clean_up_tokenization_spaces", false}};
  if (!options.special.empty())
    for (const char* role : {"bos_token", "eos_token", "unk_token"})
      config[role] = options.special.front();
  AtomicDirectory out(folder);
  write_file(out.path() / "tokenizer.json", to_tokenizer_json(trained, options));
  write_json(out.path() / "tokenizer_config.json", config);
  out.commit();
}

}  // namespace cajal::text
