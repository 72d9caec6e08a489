#include "cajal/engine/config.h"

#include <algorithm>
#include <cmath>

#include "cajal/engine/families.h"
#include "cajal/engine/fields.h"

namespace cajal::lm {
namespace {

namespace fs = std::filesystem;

std::string family_name(const Fields& f) {
  auto name = f.get<std::string>("model_type", "");
  if (!name.empty()) return name;
  // timm's files, and some old ones, have no model_type.
  const auto architecture = f.get<std::string>("architecture", "");
  if (architecture.starts_with("vit_") || architecture.starts_with("deit_"))
    return architecture.substr(0, architecture.find('_'));
  fail("{}: field 'model_type' is missing", f.where());
}

Family family_of(const Fields& f) {
  const auto name = family_name(f);
  static constexpr std::pair<std::string_view, Family> kOtherNames[] = {
      {"gemma3", Family::gemma3},
      {"gpt-neox", Family::gpt_neox},
      {"xlm-roberta", Family::roberta},
      {"camembert", Family::roberta},
      {"roberta-prelayernorm", Family::roberta},
  };
  require(name != "roberta-prelayernorm", "{} is 'roberta-prelayernorm', which is not supported",
          f.at("model_type"));
  for (const auto& [other, family] : kOtherNames)
    if (name == other) return family;
  return from_name<Family>(name, f.at("model_type"));
}

// The end of an architecture's name says what stands on top of the transformer.
void read_head(const Fields& f, Config& c) {
  std::vector<std::string> architectures;
  if (f.has("architectures"))
    options::read(f.json().at("architectures"), f.at("architectures"), architectures);
  c.head_named = !architectures.empty();
  const bool bert = c.family == Family::bert || c.family == Family::roberta;
  if (!c.head_named) {
    c.head = c.vision() ? Head::classes : bert ? Head::masked : Head::language;
    return;
  }
  const std::string& name = architectures[0];
  if (name.ends_with("ForCausalLM") || name.ends_with("LMHeadModel") ||
      name.ends_with("ForConditionalGeneration")) {
    require(c.causal, "{} is '{}', which needs a decoder", f.at("architectures"), name);
    c.head = Head::language;
  } else if (bert && name.ends_with("ForMaskedLM")) {
    c.head = Head::masked;
  } else if (c.family == Family::bert && name.ends_with("ForPreTraining")) {
    c.head = Head::masked;
    c.pooler = c.next_sentence = true;
  } else if ((bert && name.ends_with("ForSequenceClassification")) ||
             (c.vision() && name.ends_with("ForImageClassification"))) {
    c.head = Head::classes;
    c.pooler = bert;
  } else if (c.family == Family::deit && name.ends_with("ForImageClassificationWithTeacher")) {
    c.head = Head::classes;
    c.distillation_head = true;
  } else if (name.ends_with("Model")) {
    c.head = Head::none;
    c.pooler = !c.causal;
  } else {
    fail(
        "{}: '{}' is not supported; known endings are ForCausalLM, LMHeadModel, ForMaskedLM, "
        "ForPreTraining, ForSequenceClassification, ForImageClassification, "
        "ForImageClassificationWithTeacher, Model",
        f.at("architectures"), name);
  }
}

void read_classes(const Fields& f, Config& c) {
  if (c.head != Head::classes) return;
  if (f.has("id2label")) {
    const auto& labels = f.json().at("id2label");
    require(labels.is_object() && !labels.empty(), "{}: expected an object with one entry a class",
            f.at("id2label"));
    c.classes = static_cast<int64_t>(labels.size());
  } else {
    c.classes = f.has("num_classes") ? f.size("num_classes") : f.size("num_labels", 2);
  }
}

std::vector<int64_t> read_ids(const Fields& f, std::string_view key) {
  if (!f.has(key)) return {};
  if (f.json().at(std::string(key)).is_array()) return *f.find<std::vector<int64_t>>(key);
  return {*f.find<int64_t>(key)};
}

void check(const Config& c, const Fields& f) {
  require(
      c.heads * c.head_width <= int64_t{1} << 24 && c.kv_heads >= 1 && c.heads % c.kv_heads == 0,
      "{}: {} attention heads cannot share {} key and value heads", f.where(), c.heads, c.kv_heads);
  require(c.epsilon > 0 && c.epsilon < 1, "{}: the norm's epsilon is {}, expected 0 to 1",
          f.where(), c.epsilon);
  for (const int64_t window : c.window)
    require(window >= 0, "{}: sliding_window is {}, expected at least 1", f.where(), window);
}

}  // namespace

Config config_from_json(const Json& json, const std::string& where) {
  const Fields outer(json, where);
  // Multimodal files keep the language model's settings one level down.
  const bool nested =
      outer.has("text_config") && outer.get<std::string>("model_type", "") == "gemma3";
  Json inner = nested ? json.at("text_config") : Json();
  if (nested) options::require_object(inner, outer.at("text_config"));
  if (nested && json.contains("architectures")) inner["architectures"] = json.at("architectures");
  if (nested && !inner.contains("model_type")) inner["model_type"] = "gemma3";
  const Fields f(nested ? inner : json, nested ? where + ": text_config" : where);

  Config c;
  c.source = f.json();
  c.family = family_of(f);
  read_family(f, c);
  read_head(f, c);
  read_classes(f, c);
  c.end_ids = read_ids(f, "eos_token_id");
  c.begin_id = f.get<int64_t>("bos_token_id", -1);
  check(c, f);
  return c;
}

Config read_config(const fs::path& folder) {
  require(fs::is_directory(folder), "{}: not a folder; expected a checkpoint with config.json",
          folder.string());
  const auto path = folder / "config.json";
  require(fs::exists(path), "{}: config.json is missing", folder.string());
  Config c = config_from_json(read_json(path), path.string());
  if (const auto generation = folder / "generation_config.json"; fs::exists(generation)) {
    const Json settings = read_json(generation);
    auto ids = read_ids(Fields(settings, generation.string()), "eos_token_id");
    if (!ids.empty()) c.end_ids = std::move(ids);
  }
  return c;
}

}  // namespace cajal::lm
