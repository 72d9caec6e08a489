#include "cajal/text/fields.h"

#include "cajal/text/unicode.h"

namespace cajal::text {

std::string type_of(const Json& part, const std::string& where) {
  require(part.is_object(), "{}: expected an object with a type, got {}", where,
          part.dump().substr(0, 60));
  return required_field<std::string>(part, "type", where);
}

const Json& list_field(const Json& part, const char* key, const std::string& where) {
  const auto found = part.find(key);
  require(found != part.end() && found->is_array(), "{}.{}: expected an array", where, key);
  return *found;
}

Pattern pattern_field(const Json& part, const std::string& where) {
  const auto found = part.find("pattern");
  const std::string here = where + ".pattern";
  require(found != part.end() && found->is_object() && found->size() == 1,
          R"({}: expected {{"String": ..}} or {{"Regex": ..}})", here);
  if (found->contains("String"))
    return Pattern::literal(required_field<std::string>(*found, "String", here));
  return Pattern::regex(required_field<std::string>(*found, "Regex", here), here);
}

char32_t character_field(const Json& part, const char* key, const std::string& where,
                         char32_t fallback) {
  const auto text = field(part, key, where, std::string());
  if (text.empty()) return fallback;
  require(count_code_points(text) == 1, "{}.{}: expected one character, got '{}'", where, key,
          text);
  return code_point_at(text, 0).value;
}

}  // namespace cajal::text
