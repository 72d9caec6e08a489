#pragma once
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace cajal {

/// JSON whose objects keep the order in which their keys were written.
using Json = nlohmann::ordered_json;

struct JsonLimits {
  int depth = 64;                    // nested arrays and objects
  size_t bytes = size_t{256} << 20;  // of text
};

/// Parses one JSON document; `where` names its source in errors.
/// Throws Error on malformed text, invalid UTF-8, duplicate keys, or beyond `limits`.
Json parse_json(std::string_view text, std::string_view where, JsonLimits limits = {});

/// Reads and parses a JSON file; throws Error naming the file.
Json read_json(const std::filesystem::path& path, JsonLimits limits = {});

/// Writes `json` beside `path` and renames it into place.
void write_json(const std::filesystem::path& path, const Json& json, int indent = 2);

}  // namespace cajal
