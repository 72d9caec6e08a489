#pragma once
#include <filesystem>
#include <map>
#include <memory>
#include <string>

#include "cajal/core/json_lines.h"

namespace cajal::study {

/// What a study has measured so far, a line a part: {"part", "seconds", "value"} after a first line
/// that says which run it was. A run that was killed goes on from here when that line is equal.
class Record {
 public:
  Record() = default;  // keeps nothing

  /// Opens or makes `file`; what another run (program, machine, scale) left in it is dropped.
  /// Throws Error when another process holds the file.
  Record(const std::filesystem::path& file, const Json& run);

  const Json* find(const std::string& part) const;  // nullptr when it was not yet measured
  void add(const std::string& part, double seconds, const Json& value);

  size_t size() const { return parts_.size(); }
  double seconds() const { return seconds_; }  // spent on the parts that were found, in all

 private:
  std::unique_ptr<JsonLines> file_;
  std::map<std::string, Json> parts_;
  double seconds_ = 0;
};

}  // namespace cajal::study
