#include "cajal/core/json_lines.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "cajal/core/error.h"
#include "cajal/core/files.h"

namespace cajal {

JsonLines::JsonLines(std::filesystem::path path) : path_(std::move(path)) {
  descriptor_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_APPEND, 0600);
  require(descriptor_ >= 0, "{}: {}", path_.string(), std::strerror(errno));
  try {
    require(::flock(descriptor_, LOCK_EX | LOCK_NB) == 0, "{}: another process uses this file",
            path_.string());
    read();
  } catch (...) {
    ::close(descriptor_);
    throw;
  }
}

JsonLines::~JsonLines() { ::close(descriptor_); }

void JsonLines::read() {
  const auto content = read_file(path_);
  size_t begin = 0;
  for (size_t end; (end = content.find('\n', begin)) != content.npos; begin = end + 1)
    lines_.push_back(parse_json(std::string_view(content).substr(begin, end - begin),
                                fmt::format("{}: line {}", path_.string(), lines_.size() + 1)));
  // The rest has no end: a kill cut it off, or this is some other file.
  require(begin == content.size() || begin > 0 || content.starts_with('{'),
          "{}: not a file of JSON lines", path_.string());
  if (begin < content.size()) cut(begin);
}

void JsonLines::cut(size_t bytes) {
  require(::ftruncate(descriptor_, static_cast<off_t>(bytes)) == 0, "{}: {}", path_.string(),
          std::strerror(errno));
}

void JsonLines::clear() {
  cut(0);
  lines_.clear();
}

void JsonLines::add(const Json& line) {
  const auto text = line.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
  for (size_t at = 0; at < text.size();) {
    const auto put = ::write(descriptor_, text.data() + at, text.size() - at);
    require(put > 0 || errno == EINTR, "{}: {}", path_.string(), std::strerror(errno));
    if (put > 0) at += static_cast<size_t>(put);
  }
}

}  // namespace cajal
