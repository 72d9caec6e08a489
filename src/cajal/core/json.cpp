#include "cajal/core/json.h"

#include <unordered_set>
#include <vector>

#include "cajal/core/error.h"
#include "cajal/core/files.h"

namespace cajal {
namespace {

// Builds the document while it watches depth and repeated keys, which the plain parser lets pass.
class Builder : public nlohmann::detail::json_sax_dom_parser<Json> {
  using Base = nlohmann::detail::json_sax_dom_parser<Json>;

 public:
  Builder(Json& result, std::string_view where, JsonLimits limits)
      : Base(result, false), where_(where), limits_(limits) {}

  bool start_object(std::size_t elements) {
    descend();
    keys_.emplace_back();
    return Base::start_object(elements);
  }
  bool end_object() {
    --depth_;
    keys_.pop_back();
    return Base::end_object();
  }
  bool start_array(std::size_t elements) {
    descend();
    return Base::start_array(elements);
  }
  bool end_array() {
    --depth_;
    return Base::end_array();
  }
  bool key(std::string& name) {
    require(keys_.back().insert(name).second, "{}: key '{}' appears twice", where_, name);
    return Base::key(name);
  }
  template <class Exception>
  bool parse_error(std::size_t position, const std::string&, const Exception& error) {
    std::string reason = error.what();
    if (const auto at = reason.find("] "); at != std::string::npos) reason = reason.substr(at + 2);
    fail("{}: not valid JSON at byte {}: {}", where_, position, reason);
  }

 private:
  void descend() {
    require(++depth_ <= limits_.depth, "{}: nested deeper than {} levels", where_, limits_.depth);
  }

  std::string_view where_;
  JsonLimits limits_;
  int depth_ = 0;
  std::vector<std::unordered_set<std::string>> keys_;
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
