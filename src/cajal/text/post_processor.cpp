#include "cajal/text/post_processor.h"

#include "cajal/core/error.h"
#include "cajal/text/fields.h"
#include "cajal/text/vocabulary.h"

namespace cajal::text {
namespace {

int32_t checked_id(const Json& json, const std::string& where) {
  int32_t id = -1;
  options::read(json, where, id);
  require(id >= 0 && id <= Vocabulary::kMaxId, "{}: id {} is out of range", where, id);
  return id;
}

// ["[CLS]", 101]
int32_t pair_id(const Json& json, const char* key, const std::string& where) {
  const Json& pair = list_field(json, key, where);
  require(pair.size() == 2, "{}.{}: expected [token, id]", where, key);
  return checked_id(pair[1], fmt::format("{}.{}[1]", where, key));
}

Frame parse_template(const Json& json, const std::string& where) {
  Frame frame;
  const Json& pieces = list_field(json, "single", where);
  const Json specials = json.value("special_tokens", Json::object());
  for (size_t i = 0; i < pieces.size(); ++i) {
    const std::string here = fmt::format("{}.single[{}]", where, i);
    const Json& piece = pieces[i];
    require(piece.is_object() && piece.size() == 1, "{}: expected a Sequence or SpecialToken",
            here);
    if (piece.contains("Sequence")) {
      frame.push_back(kText);
      continue;
    }
    require(piece.contains("SpecialToken") && piece["SpecialToken"].is_object(),
            "{}: expected a Sequence or SpecialToken", here);
    const auto name = required_field<std::string>(piece["SpecialToken"], "id", here);
    require(specials.is_object() && specials.contains(name),
            "{}: special token '{}' is not in special_tokens", here, name);
    const std::string at = fmt::format("{}.special_tokens.{}", where, name);
    const Json& ids = list_field(specials[name], "ids", at);
    for (const auto& id : ids) frame.push_back(checked_id(id, at + ".ids"));
  }
  return frame;
}

// The inner frame put where the outer one has its text.
Frame around(const Frame& outer, const Frame& inner) {
  Frame frame;
  for (const int32_t id : outer) {
    if (id == kText) {
      frame.insert(frame.end(), inner.begin(), inner.end());
    } else {
      frame.push_back(id);
    }
  }
  return frame;
}

}  // namespace

Frame parse_post_processor(const Json& json, const std::string& where) {
  if (json.is_null()) return {kText};
  const auto type = type_of(json, where);
  if (type == "ByteLevel") return {kText};  // it only trims offsets
  if (type == "TemplateProcessing") return parse_template(json, where);
  if (type == "BertProcessing" || type == "RobertaProcessing")
    return {pair_id(json, "cls", where), kText, pair_id(json, "sep", where)};
  if (type == "Sequence") {
    Frame frame = {kText};
    const Json& parts = list_field(json, "processors", where);
    for (size_t i = 0; i < parts.size(); ++i) {
      const auto next = parse_post_processor(parts[i], fmt::format("{}.processors[{}]", where, i));
      frame = around(next, frame);
    }
    return frame;
  }
  fail("{}.type: post-processor '{}' is not known", where, type);
}

}  // namespace cajal::text
