// The older files of a tokenizer, brought into the form of tokenizer.json.
#include <algorithm>
#include <functional>
#include <utility>

#include "cajal/core/error.h"
#include "cajal/core/files.h"
#include "cajal/text/fields.h"
#include "cajal/text/gguf_tokenizer.h"
#include "cajal/text/tokenizer_file.h"
#include "cajal/text/unicode.h"

namespace cajal::text {
namespace fs = std::filesystem;
namespace {

constexpr size_t kMaxFileBytes = size_t{256} << 20;

bool is_file(const fs::path& path) {
  std::error_code ignored;
  return fs::is_regular_file(path, ignored);
}

// The JSON object in a file, or an empty one when there is no such file.
Json optional_json(const fs::path& path) {
  if (!is_file(path)) return Json::object();
  Json json = read_json(path);
  require(json.is_object(), "{}: expected an object", path.string());
  return json;
}

// The text of a token that a configuration gives as "x" or as {"content": "x", ..}; empty if none.
std::string token_in(const Json& config, const std::string& key) {
  const auto found = config.find(key);
  if (found == config.end()) return "";
  if (found->is_string()) return found->get<std::string>();
  if (found->is_object() && found->contains("content") && found->at("content").is_string())
    return found->at("content").get<std::string>();
  return "";
}

/// What the files beside an old vocabulary say.
struct Companions {
  explicit Companions(const fs::path& folder)
      : where(folder.string()),
        config(optional_json(folder / "tokenizer_config.json")),
        specials(optional_json(folder / "special_tokens_map.json")),
        added(optional_json(folder / "added_tokens.json")) {
    const Json model = optional_json(folder / "config.json");
    family = field(model, "model_type", (folder / "config.json").string(), std::string());
    const auto named = field(config, "tokenizer_class", where, std::string());
    if (named.starts_with("Roberta") || named.starts_with("Bart") ||
        named.starts_with("Longformer"))
      family = "roberta";
  }

  std::string token(const std::string& key, const std::string& fallback) const {
    for (const Json* json : {&config, &specials})
      if (auto found = token_in(*json, key); !found.empty()) return found;
    return fallback;
  }

  std::string where;
  Json config, specials, added;
  std::string family;  // model_type, where known
};

Json added_token(const std::string& content, int32_t id, bool special) {
  return {{"id", id},        {"content", content},  {"single_word", false}, {"lstrip", false},
          {"rstrip", false}, {"normalized", false}, {"special", special}};
}

// Special tokens by name, then the ones that added_tokens.json and added_tokens_decoder list.
Json added_tokens(const Companions& files, const Vocabulary& vocabulary,
                  const std::vector<std::pair<std::string, std::string>>& defaults) {
  Json list = Json::array();
  const auto add = [&](Json token) {
    for (auto& known : list) {
      if (known["content"] != token["content"]) continue;
      token["special"] = token["special"].get<bool>() || known["special"].get<bool>();
      known = std::move(token);
      return;
    }
    list.push_back(std::move(token));
  };
  const auto id_of = [&](const std::string& content) {
    const auto found = files.added.find(content);
    if (found == files.added.end()) return vocabulary.find(content);
    int32_t id = -1;
    options::read(*found, files.where + "/added_tokens.json: " + content, id);
    return id;
  };
  for (const auto& [key, fallback] : defaults) {
    const auto content = files.token(key, fallback);
    if (content.empty() || id_of(content) < 0) continue;
    add(added_token(content, id_of(content), true));
    if (key == "mask_token" && files.family == "roberta") list.back()["lstrip"] = true;
  }
  for (const auto& [content, id] : files.added.items())
    add(added_token(content, id_of(content), false));
  const auto listed = files.config.find("added_tokens_decoder");
  if (listed != files.config.end() && listed->is_object()) {
    for (const auto& [key, token] : listed->items()) {
      const std::string where = files.where + "/tokenizer_config.json: added_tokens_decoder." + key;
      require(token.is_object() && !key.empty() && key.size() < 9 &&
                  key.find_first_not_of("0123456789") == std::string::npos,
              "{}: expected a token under its id", where);
      Json entry =
          added_token(required_field<std::string>(token, "content", where),
                      static_cast<int32_t>(std::stol(key)), field(token, "special", where, false));
      for (const char* flag : {"single_word", "lstrip", "rstrip", "normalized"})
        entry[flag] = field(token, flag, where, false);
      add(std::move(entry));
    }
  }
  return list;
}

Json special_token(const std::string& content) {
  return {{"SpecialToken", {{"id", content}, {"type_id", 0}}}};
}

// A post-processor that puts tokens before and behind the text, those that there are.
Json frame(const std::string& before, const std::string& behind,
           const std::function<int32_t(const std::string&)>& id_of) {
  Json single = Json::array(), specials = Json::object();
  const auto add = [&](const std::string& content) {
    if (content.empty() || id_of(content) < 0) return;
    single.push_back(special_token(content));
    specials[content] = {{"id", content}, {"ids", {id_of(content)}}, {"tokens", {content}}};
  };
  add(before);
  single.push_back({{"Sequence", {{"id", "A"}, {"type_id", 0}}}});
  add(behind);
  return {{"type", "TemplateProcessing"}, {"single", single}, {"special_tokens", specials}};
}

std::vector<Merge> read_merges(const fs::path& path) {
  const std::string content = read_file(path, kMaxFileBytes);
  std::vector<Merge> merges;
  size_t number = 0;
  for (size_t at = 0; at < content.size();) {
    const size_t end = std::min(content.find('\n', at), content.size());
    std::string_view line(content.data() + at, end - at);
    at = end + 1;
    ++number;
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty() || line.starts_with("#version")) continue;
    const size_t space = line.find(' ');
    require(space != std::string_view::npos && line.find(' ', space + 1) == std::string_view::npos,
            "{}: line {}: expected two tokens with a space between them, got '{}'", path.string(),
            number, line.substr(0, 60));
    require(!line.ends_with("</w>"),
            "{}: line {}: a vocabulary with </w> needs a tokenizer.json beside it", path.string(),
            number);
    merges.emplace_back(line.substr(0, space), line.substr(space + 1));
  }
  return merges;
}

TokenizerFile read_byte_level(const fs::path& vocab, const fs::path& merges) {
  const std::string content = read_file(vocab, kMaxFileBytes);
  TokenizerFile file = parse_tokenizer_json(
      fmt::format(R"({{"model":{{"type":"BPE","merges":[],"vocab":{}}}}})", content),
      vocab.string());
  file.merges = read_merges(merges);
  const Companions files(vocab.parent_path());
  const bool roberta =
      files.family == "roberta" || files.family == "bart" || files.family == "longformer";
  const bool opt = files.family == "opt";
  const std::string end = roberta || opt ? "</s>" : "<|endoftext|>";
  const std::vector<std::pair<std::string, std::string>> defaults = {
      {"bos_token", roberta ? "<s>" : end},
      {"eos_token", end},
      {"unk_token", roberta ? "<unk>" : end},
      {"pad_token", roberta || opt ? "<pad>" : ""},
      {"sep_token", ""},
      {"cls_token", ""},
      {"mask_token", roberta ? "<mask>" : ""}};
  const bool prefix = field(files.config, "add_prefix_space", files.where, false);
  const Json byte_level = {{"type", "ByteLevel"},
                           {"add_prefix_space", prefix},
                           {"trim_offsets", true},
                           {"use_regex", true}};
  file.json["added_tokens"] = added_tokens(files, *file.vocabulary, defaults);
  const auto id_of = [&](const std::string& content) {
    for (const auto& token : file.json["added_tokens"])
      if (token["content"] == content) return token["id"].get<int32_t>();
    return file.vocabulary->find(content);
  };
  const bool bos = field(files.config, "add_bos_token", files.where, opt) || roberta;
  const bool eos = field(files.config, "add_eos_token", files.where, false) || roberta;
  file.json["pre_tokenizer"] = byte_level;
  file.json["decoder"] = byte_level;
  file.json["post_processor"] =
      frame(bos ? files.token(roberta ? "cls_token" : "bos_token", roberta ? "<s>" : end) : "",
            eos ? files.token(roberta ? "sep_token" : "eos_token", end) : "", id_of);
  return file;
}

TokenizerFile read_word_piece(const fs::path& path) {
  const std::string content = read_file(path, kMaxFileBytes);
  require(valid_utf8_prefix(content) == content.size(), "{}: byte {} is not UTF-8", path.string(),
          valid_utf8_prefix(content));
  std::vector<std::string_view> lines;
  for (size_t at = 0; at < content.size();) {
    const size_t end = std::min(content.find('\n', at), content.size());
    lines.emplace_back(content.data() + at, end - at);
    if (lines.back().ends_with('\r')) lines.back().remove_suffix(1);
    at = end + 1;
  }
  TokenizerFile file;
  file.where = path.string();
  // Of a token that has two lines the last one counts.
  for (size_t i = lines.size(); i-- > 0;) file.vocabulary->add(lines[i], static_cast<int32_t>(i));
  const Companions files(path.parent_path());
  const std::string unk = files.token("unk_token", "[UNK]");
  const std::string cls = files.token("cls_token", "[CLS]"),
                    sep = files.token("sep_token", "[SEP]");
  file.json["added_tokens"] = added_tokens(files, *file.vocabulary,
                                           {{"unk_token", "[UNK]"},
                                            {"sep_token", "[SEP]"},
                                            {"pad_token", "[PAD]"},
                                            {"cls_token", "[CLS]"},
                                            {"mask_token", "[MASK]"}});
  const bool lower = field(files.config, "do_lower_case", files.where, true);
  file.json["normalizer"] = {
      {"type", "BertNormalizer"},
      {"clean_text", true},
      {"handle_chinese_chars", field(files.config, "tokenize_chinese_chars", files.where, true)},
      {"strip_accents", field(files.config, "strip_accents", files.where, lower)},
      {"lowercase", lower}};
  file.json["pre_tokenizer"] = {{"type", "BertPreTokenizer"}};
  file.json["post_processor"] =
      frame(cls, sep, [&](const std::string& token) { return file.vocabulary->find(token); });
  file.json["decoder"] = {{"type", "WordPiece"}, {"prefix", "##"}, {"cleanup", true}};
  file.json["model"] = {{"type", "WordPiece"}, {"unk_token", unk}};
  return file;
}

TokenizerFile read_json_file(const fs::path& path) {
  return parse_tokenizer_json(read_file(path, kMaxFileBytes), path.string());
}

}  // namespace

TokenizerFile read_tokenizer(const fs::path& path) {
  std::error_code ignored;
  require(fs::exists(path, ignored), "{}: no such file or folder", path.string());
  const bool folder = fs::is_directory(path, ignored);
  const fs::path home = folder ? path : path.parent_path();
  const auto name = folder ? "" : path.filename().string();
  if (folder ? is_file(home / "tokenizer.json")
             : name.ends_with(".json") && name != "vocab.json" && name != "encoder.json")
    return read_json_file(folder ? home / "tokenizer.json" : path);
  if (folder ? is_file(home / "tokenizer.gguf") : name.ends_with(".gguf"))
    return tokenizer_of(Gguf::open(folder ? home / "tokenizer.gguf" : path));
  constexpr std::pair<const char*, const char*> kByteLevel[] = {{"vocab.json", "merges.txt"},
                                                                {"encoder.json", "vocab.bpe"}};
  for (const auto& [vocab, merges] : kByteLevel) {
    if (!folder && name != vocab && name != merges) continue;
    if (!is_file(home / vocab)) continue;
    require(is_file(home / merges), "{}: {} needs {} beside it", home.string(), vocab, merges);
    return read_byte_level(home / vocab, home / merges);
  }
  if (folder ? is_file(home / "vocab.txt") : name.ends_with(".txt"))
    return read_word_piece(folder ? home / "vocab.txt" : path);
  fail(
      "{}: no tokenizer here; expected tokenizer.json, vocab.json with merges.txt, vocab.txt, or a "
      "GGUF file",
      path.string());
}

SpecialIds read_special_ids(const fs::path& folder,
                            const std::function<int32_t(std::string_view)>& find) {
  const Json config = optional_json(folder / "tokenizer_config.json");
  const Json map = optional_json(folder / "special_tokens_map.json");
  const Json generation = optional_json(folder / "generation_config.json");
  const Json model = optional_json(folder / "config.json");
  SpecialIds ids;
  const auto stop = [&](int32_t id) {
    if (id >= 0 && std::ranges::find(ids.stops, id) == ids.stops.end()) ids.stops.push_back(id);
  };
  const auto numbers = [](const Json& json, const std::string& key) {
    std::vector<int32_t> out;
    const auto found = json.find(key);
    if (found == json.end()) return out;
    for (const Json& value : found->is_array() ? *found : Json::array({*found}))
      if (value.is_number_integer() && std::in_range<int32_t>(value.get<int64_t>()))
        out.push_back(value.get<int32_t>());
    return out;
  };
  const auto id_of = [&](const std::string& name) {
    for (const Json* json : {&config, &map})
      if (const auto text = token_in(*json, name + "_token"); !text.empty())
        if (const int32_t id = find(text); id >= 0) return id;
    for (const Json* json : {&generation, &model})
      if (const auto found = numbers(*json, name + "_token_id"); !found.empty()) return found[0];
    return -1;
  };
  ids.bos = id_of("bos");
  ids.eos = id_of("eos");
  ids.pad = id_of("pad");
  ids.unk = id_of("unk");
  stop(ids.eos);
  for (const Json* json : {&generation, &model})
    for (const int32_t id : numbers(*json, "eos_token_id")) stop(id);
  return ids;
}

}  // namespace cajal::text
