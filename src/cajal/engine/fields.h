#pragma once
#include <optional>
#include <string>
#include <vector>

#include "cajal/core/json.h"
#include "cajal/core/options.h"

namespace cajal::lm {

/// Typed reading of a config.json whose other keys are left alone; null counts as absent. Errors
/// name the source and the field.
class Fields {
 public:
  Fields(const Json& json, std::string where) : json_(json), where_(std::move(where)) {
    options::require_object(json, where_);
  }

  const Json& json() const { return json_; }
  std::string at(std::string_view key) const { return where_ + ": " + std::string(key); }
  bool has(std::string_view key) const {
    const auto it = json_.find(key);
    return it != json_.end() && !it->is_null();
  }

  template <class T>
  std::optional<T> find(std::string_view key) const {
    if (!has(key)) return {};
    T value{};
    options::read(json_.at(std::string(key)), at(key), value);
    return value;
  }
  template <class T>
  T get(std::string_view key, T otherwise) const {
    return find<T>(key).value_or(std::move(otherwise));
  }

  /// A size in [1, limit]; without `otherwise` the key must be there.
  int64_t size(std::string_view key, std::optional<int64_t> otherwise = {},
               int64_t limit = int64_t{1} << 24) const {
    const auto value = has(key) ? find<int64_t>(key) : otherwise;
    require(value.has_value(), "{}: field '{}' is missing", where_, key);
    require(*value >= 1 && *value <= limit, "{}: {} is {}, expected 1 to {}", where_, key, *value,
            limit);
    return *value;
  }
  double positive(std::string_view key, double otherwise) const {
    const double value = get<double>(key, otherwise);
    require(value > 0, "{}: {} is {}, expected more than 0", where_, key, value);
    return value;
  }

  const std::string& where() const { return where_; }

 private:
  const Json& json_;
  std::string where_;
};

}  // namespace cajal::lm
