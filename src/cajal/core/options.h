#pragma once
#include <cmath>
#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "cajal/core/error.h"
#include "cajal/core/json.h"

namespace cajal {

/// Names of an enum's values, in order; specialised by CAJAL_ENUM.
template <class E>
struct EnumNames;

template <class E>
concept NamedEnum = std::is_enum_v<E> && requires {
  EnumNames<E>::values;
};

/// The name of an enum value as it is written in options and on the command line.
template <NamedEnum E>
std::string to_name(E value) {
  for (const auto& [candidate, name] : EnumNames<E>::values)
    if (candidate == value) return name;
  fail("unnamed value {} of an enum", static_cast<int>(value));
}

/// The enum value of that name; throws Error listing the names there are.
template <NamedEnum E>
E from_name(std::string_view name, std::string_view where) {
  std::string known;
  for (const auto& [value, candidate] : EnumNames<E>::values) {
    if (name == candidate) return value;
    known += (known.empty() ? "" : ", ") + std::string(candidate);
  }
  fail("{}: '{}' is not one of {}", where, name, known);
}

namespace options {

template <class T>
struct is_vector : std::false_type {};
template <class T>
struct is_vector<std::vector<T>> : std::true_type {};
template <class T>
struct is_optional : std::false_type {};
template <class T>
struct is_optional<std::optional<T>> : std::true_type {};

void require_object(const Json& json, std::string_view where);
void refuse_unknown_keys(const Json& json, std::string_view where,
                         std::initializer_list<std::string_view> known);
[[noreturn]] void wrong_type(const Json& json, const std::string& where, std::string_view expected);

/// Reads one typed value; refuses what would be converted silently (1.5 for an integer, 0 for
/// false).
template <class T>
void read(const Json& json, const std::string& where, T& out) {
  if constexpr (std::is_same_v<T, Json>) {
    out = json;
  } else if constexpr (std::is_same_v<T, bool>) {
    if (!json.is_boolean()) wrong_type(json, where, "true or false");
    out = json.get<bool>();
  } else if constexpr (std::is_integral_v<T>) {
    if (!json.is_number_integer()) wrong_type(json, where, "an integer");
    if (json.is_number_unsigned() ? !std::in_range<T>(json.get<uint64_t>())
                                  : !std::in_range<T>(json.get<int64_t>()))
      wrong_type(json, where, "an integer in range");
    out = json.get<T>();
  } else if constexpr (std::is_floating_point_v<T>) {
    if (!json.is_number()) wrong_type(json, where, "a number");
    out = json.get<T>();
    if (!std::isfinite(out)) wrong_type(json, where, "a finite number");
  } else if constexpr (std::is_same_v<T, std::string>) {
    if (!json.is_string()) wrong_type(json, where, "a string");
    out = json.get<std::string>();
  } else if constexpr (NamedEnum<T>) {
    if (!json.is_string()) wrong_type(json, where, "a name");
    out = from_name<T>(json.get<std::string>(), where);
  } else if constexpr (is_optional<T>::value) {
    if (json.is_null()) {
      out.reset();
    } else {
      read(json, where, out.emplace());
    }
  } else if constexpr (is_vector<T>::value) {
    if (!json.is_array()) wrong_type(json, where, "an array");
    out.clear();
    for (size_t i = 0; i < json.size(); ++i) {
      typename T::value_type element{};
      read(json[i], fmt::format("{}[{}]", where, i), element);
      out.push_back(std::move(element));
    }
  } else {
    read_options(json, where, out);  // a nested options struct
  }
}

template <class T>
Json write(const T& value) {
  if constexpr (NamedEnum<T>) {
    return to_name(value);
  } else if constexpr (is_optional<T>::value) {
    return value ? write(*value) : Json(nullptr);
  } else if constexpr (is_vector<T>::value) {
    Json array = Json::array();
    for (const auto& element : value) array.push_back(write(element));
    return array;
  } else if constexpr (requires { write_options(value); }) {
    return write_options(value);
  } else {
    return value;
  }
}

/// The options written in `json`; keys left out keep their defaults, unknown keys are refused.
template <class T>
T parse(const Json& json, const std::string& where = "options") {
  T out;
  read_options(json, where, out);
  return out;
}

}  // namespace options
}  // namespace cajal

#define CAJAL_OPTIONS_READ_(field) \
  if (json.contains(#field)) ::cajal::options::read(json.at(#field), where + "." #field, out.field);
#define CAJAL_OPTIONS_WRITE_(field) json[#field] = ::cajal::options::write(value.field);
#define CAJAL_OPTIONS_NAME_(field) #field,

/// JSON both ways for an aggregate of options: `read_options` refuses unknown keys and wrong types,
/// `write_options` writes every field. Place it after the struct, in its namespace.
#define CAJAL_OPTIONS(Type, ...)                                                             \
  inline void read_options(const ::cajal::Json& json, const std::string& where, Type& out) { \
    ::cajal::options::require_object(json, where);                                           \
    ::cajal::options::refuse_unknown_keys(                                                   \
        json, where,                                                                         \
        {NLOHMANN_JSON_EXPAND(NLOHMANN_JSON_PASTE(CAJAL_OPTIONS_NAME_, __VA_ARGS__))});      \
    NLOHMANN_JSON_EXPAND(NLOHMANN_JSON_PASTE(CAJAL_OPTIONS_READ_, __VA_ARGS__))              \
  }                                                                                          \
  inline ::cajal::Json write_options(const Type& value) {                                    \
    ::cajal::Json json = ::cajal::Json::object();                                            \
    NLOHMANN_JSON_EXPAND(NLOHMANN_JSON_PASTE(CAJAL_OPTIONS_WRITE_, __VA_ARGS__))             \
    return json;                                                                             \
  }

/// Names for the values of an enum, e.g. CAJAL_ENUM(Law, {Law::relu, "relu"}, {Law::gelu, "gelu"}).
/// Place it at global scope with the enum's full name.
#define CAJAL_ENUM(Type, ...)                                               \
  template <>                                                               \
  struct cajal::EnumNames<Type> {                                           \
    static constexpr std::pair<Type, const char*> values[] = {__VA_ARGS__}; \
  };
