#pragma once
#include <filesystem>
#include <fstream>
#include <vector>

#include "cajal/core/json.h"

namespace cajal::train {

/// A run's log.jsonl: one JSON object a line, each with its "step". Opened again to resume, it
/// forgets the lines past the step that training goes on from.
class Log {
 public:
  Log() = default;  // writes nothing
  /// Throws Error when the file cannot be written. `resume_at` 0 begins anew.
  Log(const std::filesystem::path& path, int64_t resume_at);

  void write(const Json& line);

  /// The lines of a log that can be read; a last line cut off by a crash is left out.
  static std::vector<Json> read(const std::filesystem::path& path);

 private:
  std::ofstream file_;
};

}  // namespace cajal::train
