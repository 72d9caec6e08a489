#include "cajal/core/json.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "cajal/core/error.h"
#include "cajal/core/files.h"

namespace cajal {
namespace {

// Builds the document while it watches depth and repeated keys, which the plain parser lets pass.
// It appends keys where the plain parser first searches those before, which would take minutes for
// a vocabulary or an index of 100,000 names.
class Builder {
 public:
  Builder(Json& result, std::string_view where, JsonLimits limits)
      : result_(result), where_(where), limits_(limits) {}

  bool null() { return add(nullptr); }
  bool boolean(bool value) { return add(value); }
  bool number_integer(int64_t value) { return add(value); }
  bool number_unsigned(uint64_t value) { return add(value); }
  bool number_float(double value, const std::string&) { return add(value); }
  bool string(std::string& value) { return add(std::move(value)); }
  bool binary(Json::binary_t&) { return false; }  // not in JSON text

  bool start_object(std::size_t) { return descend(Json::object()); }
  bool start_array(std::size_t) { return descend(Json::array()); }
  bool key(std::string& name) {
    auto& object = open_.back()->get_ref<Json::object_t&>();
    object.Json::object_t::Container::emplace_back(std::move(name), nullptr);
    value_ = &object.back().second;
    return true;
  }
  bool end_object() {
    refuse_repeated_keys(open_.back()->get_ref<const Json::object_t&>());
    open_.pop_back();
    return true;
  }
  bool end_array() {
    open_.pop_back();
    return true;
  }
  template <class Exception>
  bool parse_error(std::size_t position, const std::string&, const Exception& error) {
    std::string reason = error.what();
    if (const auto at = reason.find("] "); at != std::string::npos) reason = reason.substr(at + 2);
    fail("{}: not valid JSON at byte {}: {}", where_, position, reason);
  }

 private:
  // Puts a value at the document's root, behind the last key or at the end of the array.
  Json& place(Json value) {
    if (open_.empty()) return result_ = std::move(value);
    if (open_.back()->is_object()) return *value_ = std::move(value);
    auto& array = open_.back()->get_ref<Json::array_t&>();
    return array.emplace_back(std::move(value));
  }
  bool add(Json value) {
    place(std::move(value));
    return true;
  }
  bool descend(Json value) {
    open_.push_back(&place(std::move(value)));
    require(static_cast<int>(open_.size()) <= limits_.depth, "{}: nested deeper than {} levels",
            where_, limits_.depth);
    return true;
  }
  void refuse_repeated_keys(const Json::object_t& object) {
    keys_.clear();
    for (const auto& [key, value] : object) keys_.push_back(key);
    std::sort(keys_.begin(), keys_.end());
    const auto repeated = std::adjacent_find(keys_.begin(), keys_.end());
    if (repeated != keys_.end()) fail("{}: key '{}' appears twice", where_, *repeated);
  }

  Json& result_;
  Json* value_ = nullptr;    // of the last key
  std::vector<Json*> open_;  // objects and arrays that have not ended, outermost first
  std::vector<std::string_view> keys_;
  std::string_view where_;
  JsonLimits limits_;
};

}  // namespace

Json parse_json(std::string_view text, std::string_view where, JsonLimits limits) {
  require(text.size() <= limits.bytes, "{}: {} bytes of JSON, at most {} are read", where,
          text.size(), limits.bytes);
  Json result;
  Builder builder(result, where, limits);
  Json::sax_parse(text.begin(), text.end(), &builder);
  return result;
}

Json read_json(const std::filesystem::path& path, JsonLimits limits) {
  return parse_json(read_file(path, limits.bytes), path.string(), limits);
}

void write_json(const std::filesystem::path& path, const Json& json, int indent) {
  write_file(path, json.dump(indent, ' ', false, Json::error_handler_t::replace) + "\n");
}

}  // namespace cajal
