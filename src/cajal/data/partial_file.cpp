#include "cajal/data/partial_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "cajal/core/error.h"

namespace cajal::data {
namespace fs = std::filesystem;
namespace {

std::string reason() { return std::strerror(errno); }

fs::path with_suffix(fs::path path, const char* suffix) {
  path += suffix;
  return path;
}

void lock_file(int descriptor, const fs::path& path, const std::function<void()>& waiting) {
  if (::flock(descriptor, LOCK_EX | LOCK_NB) == 0) return;
  if (errno == EWOULDBLOCK) waiting();
  while (::flock(descriptor, LOCK_EX) != 0)
    require(errno == EINTR, "{}: cannot be locked: {}", path.string(), reason());
}

// Whether the open file is still the one at that path: its last holder may have moved it away.
bool still_at(int descriptor, const fs::path& path) {
  struct stat open {
  }, there{};
  return ::fstat(descriptor, &open) == 0 && ::stat(path.c_str(), &there) == 0 &&
         open.st_ino == there.st_ino && open.st_dev == there.st_dev;
}

}  // namespace

PartialFile::PartialFile(const fs::path& target, const std::function<void()>& waiting)
    : target_(target),
      path_(with_suffix(target, ".partial")),
      origin_path_(with_suffix(target, ".partial.json")) {
  for (;;) {
    descriptor_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
    require(descriptor_ >= 0, "{}: cannot be written: {}", path_.string(), reason());
    try {
      lock_file(descriptor_, path_, waiting);
    } catch (...) {
      ::close(descriptor_);
      throw;
    }
    if (still_at(descriptor_, path_)) break;
    ::close(descriptor_);
  }
  size_ = ::lseek(descriptor_, 0, SEEK_END);
  try {
    if (size_ > 0) origin_ = options::parse<PartialOrigin>(read_json(origin_path_));
  } catch (const Error&) {
    origin_ = {};  // unknown origin: it will be started anew
  }
}

PartialFile::~PartialFile() {
  if (descriptor_ < 0) return;
  if (size_ == 0) {
    ::unlink(origin_path_.c_str());
    ::unlink(path_.c_str());
  }
  ::close(descriptor_);
}

void PartialFile::restart(const PartialOrigin& origin) {
  require(::ftruncate(descriptor_, 0) == 0 && ::lseek(descriptor_, 0, SEEK_SET) == 0,
          "{}: cannot be written: {}", path_.string(), reason());
  size_ = 0;
  origin_ = origin;
  write_json(origin_path_, write_options(origin));
}

void PartialFile::append(std::span<const char> bytes) {
  while (!bytes.empty()) {
    const ssize_t put = ::write(descriptor_, bytes.data(), bytes.size());
    if (put < 0 && errno == EINTR) continue;
    require(put > 0, "{}: cannot be written: {}", path_.string(), reason());
    bytes = bytes.subspan(static_cast<size_t>(put));
    size_ += put;
  }
}

void PartialFile::finish() {
  require(::fsync(descriptor_) == 0, "{}: cannot be written: {}", path_.string(), reason());
  // A hard link, unlike a rename, never replaces what is there.
  if (::link(path_.c_str(), target_.c_str()) == 0) {
    ::unlink(path_.c_str());
  } else {
    require(errno != EEXIST && !fs::exists(target_), "{}: came into being meanwhile; not replaced",
            target_.string());
    require(::rename(path_.c_str(), target_.c_str()) == 0, "{}: cannot be put in place: {}",
            target_.string(), reason());
  }
  ::unlink(origin_path_.c_str());
  ::close(descriptor_);
  descriptor_ = -1;
}

}  // namespace cajal::data
