#include "cajal/train/log.h"

#include "cajal/core/error.h"
#include "cajal/core/files.h"

namespace cajal::train {

std::vector<Json> Log::read(const std::filesystem::path& path) {
  std::vector<Json> lines;
  const auto text = read_file(path);
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = text.find('\n', begin);
    if (end == std::string::npos) break;
    lines.push_back(parse_json(std::string_view(text).substr(begin, end - begin), path.string()));
    begin = end + 1;
  }
  return lines;
}

Log::Log(const std::filesystem::path& path, int64_t resume_at) {
  std::string kept;
  if (resume_at > 0 && std::filesystem::exists(path))
    for (const auto& line : read(path))
      if (line.value("step", int64_t{0}) <= resume_at) kept += line.dump() + "\n";
  write_file(path, kept);
  file_.open(path, std::ios::app);
  require(file_.good(), "{}: cannot be written", path.string());
}

void Log::write(const Json& line) {
  if (!file_.is_open()) return;
  file_ << line.dump() << std::endl;
  require(file_.good(), "the training log cannot be written: is the disk full?");
}

}  // namespace cajal::train
