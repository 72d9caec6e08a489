#pragma once
#include <filesystem>
#include <vector>

#include "cajal/core/json.h"

namespace cajal {

/// A file of one JSON document a line, added to at its end and held by one process at a time. A
/// last line that a kill cut off is dropped when the file is opened.
class JsonLines {
 public:
  /// Opens or makes the file. Throws Error that names file and line for what is no JSON, and when
  /// another process holds the file.
  explicit JsonLines(std::filesystem::path path);
  ~JsonLines();
  JsonLines(const JsonLines&) = delete;
  JsonLines& operator=(const JsonLines&) = delete;

  const std::vector<Json>& lines() const { return lines_; }  // those that were there when opened
  const std::filesystem::path& path() const { return path_; }

  void add(const Json& line);  // in one write; text that is no UTF-8 is replaced
  void clear();                // drops every line

 private:
  void read();
  void cut(size_t bytes);

  std::filesystem::path path_;
  int descriptor_ = -1;
  std::vector<Json> lines_;
};

}  // namespace cajal
