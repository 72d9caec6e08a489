#include "cajal/core/options.h"

#include <algorithm>

#include "cajal/core/registry.h"

namespace cajal::options {

void require_object(const Json& json, std::string_view where) {
  require(json.is_object(), "{}: expected an object of options, got {}", where, json.type_name());
}

void refuse_unknown_keys(const Json& json, std::string_view where,
                         std::initializer_list<std::string_view> known) {
  for (const auto& item : json.items()) {
    if (std::find(known.begin(), known.end(), item.key()) != known.end()) continue;
    fail("{}: unknown option '{}'{}; options are {}", where, item.key(),
         did_you_mean(item.key(), {known.begin(), known.end()}), fmt::join(known, ", "));
  }
}

void wrong_type(const Json& json, const std::string& where, std::string_view expected) {
  std::string shown = json.dump(-1, ' ', false, Json::error_handler_t::replace);
  if (shown.size() > 60) shown = shown.substr(0, 57) + "...";
  fail("{}: expected {}, got {}", where, expected, shown);
}

}  // namespace cajal::options
