#include "cajal/text/gguf_tokenizer.h"

#include <algorithm>
#include <array>

#include "cajal/core/error.h"
#include "cajal/text/gguf_patterns.h"
#include "cajal/text/post_processor.h"
#include "cajal/text/scanners.h"
#include "cajal/text/tokenizer.h"

namespace cajal::text {
namespace {

// tokenizer.ggml.token_type
enum TokenType : int64_t { kNormal = 1, kUnknown, kControl, kUserDefined, kUnused, kByte };

// Tokens that end a turn, where a file does not say which of them does.
constexpr std::string_view kEnds[] = {"<|eot_id|>",    "<|im_end|>",    "<|end|>",
                                      "<end_of_turn>", "<|endoftext|>", "<|eom_id|>"};

int32_t id_in(const Gguf& gguf, std::string_view name, size_t tokens, int32_t otherwise) {
  const auto key = fmt::format("tokenizer.ggml.{}", name);
  const auto given = gguf.integer(key);
  if (!given) return otherwise >= 0 && otherwise < static_cast<int32_t>(tokens) ? otherwise : -1;
  if (*given < 0 || *given == UINT32_MAX) return -1;
  require(*given < static_cast<int64_t>(tokens), "{}: {} is {}, expected an id below {}",
          gguf.where(), key, *given, tokens);
  return static_cast<int32_t>(*given);
}

struct Lists {
  explicit Lists(const Gguf& gguf) {
    tokens = gguf.texts("tokenizer.ggml.tokens");
    types = gguf.integers("tokenizer.ggml.token_type");
    require(!tokens.empty(), "{}: tokenizer.ggml.tokens is missing", gguf.where());
    require(static_cast<int64_t>(tokens.size()) <= Vocabulary::kMaxId + 1,
            "{}: tokenizer.ggml.tokens has {} tokens, expected at most {}", gguf.where(),
            tokens.size(), Vocabulary::kMaxId + 1);
    require(types.empty() || types.size() == tokens.size(),
            "{}: tokenizer.ggml.token_type has {} entries for {} tokens", gguf.where(),
            types.size(), tokens.size());
  }

  int64_t type(size_t id) const { return types.empty() ? kNormal : types[id]; }

  std::vector<std::string_view> tokens;
  std::vector<int64_t> types;
};

Json added_tokens(const Lists& lists) {
  Json added = Json::array();
  for (size_t id = 0; id < lists.tokens.size(); ++id) {
    const auto type = lists.type(id);
    if (type != kControl && type != kUserDefined && type != kUnknown) continue;
    added.push_back({{"id", id},
                     {"content", lists.tokens[id]},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false},
                     {"special", type != kUserDefined}});
  }
  return added;
}

Json frame(const Gguf& gguf, const SpecialIds& ids, bool begins) {
  Json single = Json::array(), specials = Json::object();
  const auto add = [&](const char* name, int32_t id, bool wanted) {
    if (!wanted || id < 0) return;
    single.push_back({{"SpecialToken", {{"id", name}, {"type_id", 0}}}});
    specials[name] = {{"id", name}, {"ids", {id}}, {"tokens", {name}}};
  };
  add("bos", ids.bos, gguf.flag("tokenizer.ggml.add_bos_token").value_or(begins));
  single.push_back({{"Sequence", {{"id", "A"}, {"type_id", 0}}}});
  add("eos", ids.eos, gguf.flag("tokenizer.ggml.add_eos_token").value_or(false));
  return {{"type", "TemplateProcessing"}, {"single", single}, {"special_tokens", specials}};
}

void add_vocabulary(const Gguf& gguf, const Lists& lists, TokenizerFile& file) {
  size_t bytes = 0;
  for (const auto token : lists.tokens) bytes += token.size();
  file.vocabulary->reserve(lists.tokens.size(), bytes);
  for (size_t id = 0; id < lists.tokens.size(); ++id) {
    const auto token = lists.tokens[id];
    const auto number = static_cast<int32_t>(id);
    require(token.find('\0') == token.npos || token.size() == 1,
            "{}: tokenizer.ggml.tokens[{}] holds a zero byte", gguf.where(), id);
    file.vocabulary->add(token.empty() ? fmt::format("[EMPTY_{}]", id) : std::string(token),
                         number);
  }
}

// Merging by score over characters, with bytes for what the vocabulary lacks.
void describe_llama(const Gguf& gguf, const Lists& lists, TokenizerFile& file) {
  file.scores = gguf.numbers("tokenizer.ggml.scores");
  require(file.scores.size() == lists.tokens.size(),
          "{}: tokenizer.ggml.scores has {} entries for {} tokens", gguf.where(),
          file.scores.size(), lists.tokens.size());
  const bool prefix = gguf.flag("tokenizer.ggml.add_space_prefix").value_or(true);
  const std::string mark = "\xE2\x96\x81";
  const Json to_mark = {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", mark}};
  file.json["model"] = {{"type", "SentencePiece"}, {"unk_id", gguf_special_ids(gguf).unk}};
  file.json["normalizer"] =
      prefix ? Json{{"type", "Sequence"},
                    {"normalizers", {{{"type", "Prepend"}, {"prepend", mark}}, to_mark}}}
             : to_mark;
  Json steps = {{{"type", "Replace"}, {"pattern", {{"String", mark}}}, {"content", " "}},
                {{"type", "ByteFallback"}},
                {{"type", "Fuse"}}};
  if (prefix) steps.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
  file.json["decoder"] = {{"type", "Sequence"}, {"decoders", steps}};
}

Json split(std::string_view expression) {
  return {{"type", "Split"},
          {"pattern", {{"Regex", expression}}},
          {"behavior", "Isolated"},
          {"invert", false}};
}

void describe_bpe(const Gguf& gguf, const GgufPattern& pattern, TokenizerFile& file) {
  for (const auto line : gguf.texts("tokenizer.ggml.merges")) {
    const auto space = line.find(' ', 1);
    require(space != line.npos, "{}: tokenizer.ggml.merges: '{}' is not two tokens with a space",
            gguf.where(), line.substr(0, 60));
    file.merges.emplace_back(line.substr(0, space), line.substr(space + 1));
  }
  const Json byte_level = {{"type", "ByteLevel"},
                           {"add_prefix_space", false},
                           {"trim_offsets", true},
                           {"use_regex", false}};
  Json stages = Json::array();
  for (const auto expression : pattern.expressions) stages.push_back(split(expression));
  stages.push_back(byte_level);
  file.json["model"] = {
      {"type", "BPE"}, {"merges", nullptr}, {"ignore_merges", pattern.ignore_merges}};
  file.json["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", stages}};
  file.json["decoder"] = byte_level;
}

}  // namespace

SpecialIds gguf_special_ids(const Gguf& gguf) {
  SpecialIds ids;
  if (!gguf.has("tokenizer.ggml.tokens")) return ids;
  const Lists lists(gguf);
  const bool llama = gguf.text("tokenizer.ggml.model") == "llama";
  const auto id = [&](const char* name, int32_t otherwise) {
    return id_in(gguf, name, lists.tokens.size(), otherwise);
  };
  ids.bos = id("bos_token_id", llama ? 1 : -1);
  ids.eos = id("eos_token_id", llama ? 2 : -1);
  ids.unk = id("unknown_token_id", llama ? 0 : -1);
  ids.pad = id("padding_token_id", -1);
  const auto stop = [&](int32_t one) {
    if (one >= 0 && std::ranges::find(ids.stops, one) == ids.stops.end()) ids.stops.push_back(one);
  };
  stop(ids.eos);
  stop(id("eot_token_id", -1));
  stop(id("eom_token_id", -1));
  for (size_t i = 0; i < lists.types.size(); ++i)
    if (lists.types[i] == kControl && std::ranges::count(kEnds, lists.tokens[i]) > 0)
      stop(static_cast<int32_t>(i));
  return ids;
}

TokenizerFile tokenizer_of(const Gguf& gguf) {
  if (const auto json = gguf.text("tokenizer.huggingface.json")) {
    auto file = parse_tokenizer_json(*json, gguf.where() + ": tokenizer.huggingface.json");
    file.specials = gguf_special_ids(gguf);
    return file;
  }
  const auto model = gguf.text("tokenizer.ggml.model");
  require(model.has_value(), "{}: no tokenizer in it: tokenizer.ggml.model is missing",
          gguf.where());
  require(*model == "gpt2" || *model == "llama",
          "{}: tokenizer.ggml.model is '{}', expected gpt2 or llama", gguf.where(), *model);
  const bool bpe = *model == "gpt2";
  const auto pattern = gguf_pattern(gguf.text("tokenizer.ggml.pre").value_or("default"));
  const Lists lists(gguf);
  TokenizerFile file;
  file.where = gguf.where();
  file.specials = gguf_special_ids(gguf);
  add_vocabulary(gguf, lists, file);
  bpe ? describe_bpe(gguf, pattern, file) : describe_llama(gguf, lists, file);
  file.json["added_tokens"] = added_tokens(lists);
  file.json["post_processor"] = frame(gguf, *file.specials, !bpe || pattern.begins);
  return file;
}

std::vector<std::pair<std::string, GgufSetting>> tokenizer_settings(const Gguf& gguf) {
  std::vector<std::pair<std::string, GgufSetting>> out;
  for (const auto& [key, value] : gguf.settings()) {
    if (!key.starts_with("tokenizer.")) continue;
    auto kept = value;
    kept.owner = gguf.file();
    out.emplace_back(key, std::move(kept));
  }
  return out;
}

namespace {

// The pattern of a byte-level pre-tokenizer that ggml has a name for; empty otherwise.
std::string pattern_of(const Json& pre_tokenizer) {
  if (!pre_tokenizer.is_object()) return "";
  const auto type = pre_tokenizer.value("type", "");
  if (type == "ByteLevel")
    return pre_tokenizer.value("use_regex", true) && !pre_tokenizer.value("add_prefix_space", true)
               ? std::string(kGpt2Pattern)
               : "";
  if (type != "Sequence" || !pre_tokenizer.contains("pretokenizers")) return "";
  const Json& stages = pre_tokenizer["pretokenizers"];
  const bool cut =
      stages.is_array() && stages.size() == 2 && stages[0].value("type", "") == "Split" &&
      stages[0].contains("pattern") && stages[0]["pattern"].contains("Regex") &&
      stages[1].value("type", "") == "ByteLevel" && !stages[1].value("use_regex", true);
  return cut ? stages[0]["pattern"]["Regex"].get<std::string>() : "";
}

}  // namespace

std::vector<std::pair<std::string, GgufSetting>> settings_of_tokenizer(
    const std::filesystem::path& path) {
  if (!std::filesystem::exists(path)) return {};  // a model made in memory
  const bool folder = std::filesystem::is_directory(path);
  if (!folder) return tokenizer_settings(Gguf::open(path));
  if (!std::filesystem::exists(path / "tokenizer.json"))
    return std::filesystem::exists(path / "tokenizer.gguf")
               ? tokenizer_settings(Gguf::open(path / "tokenizer.gguf"))
               : std::vector<std::pair<std::string, GgufSetting>>();
  const auto json = read_file(path / "tokenizer.json");
  auto file = parse_tokenizer_json(json, (path / "tokenizer.json").string());
  const auto tokenizer = Tokenizer::open(path);
  std::vector<std::pair<std::string, GgufSetting>> out;
  const auto put = [&](const char* key, GgufSetting value) {
    out.emplace_back(fmt::format("tokenizer.{}", key), std::move(value));
  };
  put("huggingface.json", json);
  const bool ignore_merges = file.json["model"].value("ignore_merges", false);
  const auto pre =
      gguf_pattern_name(pattern_of(file.json.value("pre_tokenizer", Json())), ignore_merges);
  const bool bpe = !file.merges.empty() && !pre.empty();
  std::vector<std::string> tokens;
  std::vector<int32_t> types;
  for (int32_t id = 0; id < tokenizer.size(); ++id) {
    const bool there = tokenizer.contains(id);
    tokens.emplace_back(there ? std::string(tokenizer.token_text(id)) : fmt::format("[PAD{}]", id));
    const bool added = there && tokenizer.is_added(id);
    types.push_back(!there                     ? kUnused
                    : tokenizer.is_special(id) ? kControl
                    : added                    ? kUserDefined
                                               : kNormal);
  }
  put("ggml.tokens", std::move(tokens));
  put("ggml.token_type", std::move(types));
  if (bpe) {
    std::vector<std::string> merges;
    for (const auto& [left, right] : file.merges) merges.push_back(left + " " + right);
    put("ggml.model", std::string("gpt2"));
    put("ggml.pre", std::string(pre));
    put("ggml.merges", std::move(merges));
  }
  const auto frame = parse_post_processor(file.json.value("post_processor", Json()), "");
  const auto& ids = tokenizer.specials();
  const int32_t first = frame.front() == kText ? ids.bos : frame.front();
  if (first >= 0) put("ggml.bos_token_id", static_cast<uint32_t>(first));
  if (ids.eos >= 0) put("ggml.eos_token_id", static_cast<uint32_t>(ids.eos));
  put("ggml.add_bos_token", frame.front() != kText);
  put("ggml.add_eos_token", frame.back() != kText);
  return out;
}

}  // namespace cajal::text
