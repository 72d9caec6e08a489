#pragma once
#include <string>
#include <string_view>

#include "cajal/core/json.h"
#include "cajal/core/options.h"
#include "cajal/text/pattern.h"

namespace cajal::text {

/// A field of an object of a tokenizer file; `fallback` when it is missing or null.
/// Throws Error naming the field when it holds something else than a T.
template <class T>
T field(const Json& object, const char* key, const std::string& where, T fallback) {
  const auto found = object.find(key);
  if (found == object.end() || found->is_null()) return fallback;
  options::read(*found, where + "." + key, fallback);
  return fallback;
}

/// A field that must be there.
template <class T>
T required_field(const Json& object, const char* key, const std::string& where) {
  require(object.contains(key) && !object.at(key).is_null(), "{}: field '{}' is missing", where,
          key);
  return field(object, key, where, T{});
}

/// The "type" of a part of the pipeline; throws Error when `part` is no object or names none.
std::string type_of(const Json& part, const std::string& where);

/// The array in `part[key]`.
const Json& list_field(const Json& part, const char* key, const std::string& where);

/// The pattern in `part.pattern`: {"String": ..} or {"Regex": ..}.
Pattern pattern_field(const Json& part, const std::string& where);

/// The one character in `part[key]`.
char32_t character_field(const Json& part, const char* key, const std::string& where,
                         char32_t fallback);

}  // namespace cajal::text
