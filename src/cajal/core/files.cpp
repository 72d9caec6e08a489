#include "cajal/core/files.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <random>

#include "cajal/core/error.h"

namespace cajal {
namespace fs = std::filesystem;
namespace {

std::string reason() { return std::strerror(errno); }

// A name beside `path` that no other process uses, so that the rename stays on one file system.
fs::path beside(const fs::path& path) {
  static std::random_device device;
  auto name = path;
  name += fmt::format(".{:08x}{:08x}.partial", device(), device());
  return name;
}

int open_to_read(const fs::path& path, struct stat& status) {
  // Without O_NONBLOCK, opening a pipe that nobody writes to would wait for ever.
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  require(descriptor >= 0, "{}: cannot be opened: {}", path.string(), reason());
  if (::fstat(descriptor, &status) != 0 || !S_ISREG(status.st_mode)) {
    ::close(descriptor);
    fail("{}: not a regular file", path.string());
  }
  return descriptor;
}

}  // namespace

MappedFile::MappedFile(const fs::path& path) : path_(path) {
  struct stat status {};
  const int descriptor = open_to_read(path, status);
  size_ = static_cast<size_t>(status.st_size);
  if (size_ > 0) {
    void* address = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, descriptor, 0);
    if (address == MAP_FAILED) {
      const auto why = reason();
      ::close(descriptor);
      fail("{}: cannot be mapped: {}", path.string(), why);
    }
    data_ = static_cast<const std::byte*>(address);
  }
  ::close(descriptor);
}

MappedFile::~MappedFile() {
  if (data_) ::munmap(const_cast<std::byte*>(data_), size_);
}

void MappedFile::forget(std::span<const std::byte> range) const {
  const auto page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  // Memory of others would lose its content, not only its pages.
  if (range.data() < data_ || range.data() + range.size() > data_ + size_) return;
  // Only whole pages inside the range: a neighbour's bytes on a shared page stay.
  const auto begin = (reinterpret_cast<uintptr_t>(range.data()) + page - 1) / page * page;
  const auto end = reinterpret_cast<uintptr_t>(range.data() + range.size()) / page * page;
  if (begin < end) ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}

std::string read_file(const fs::path& path, size_t limit) {
  struct stat status {};
  const int descriptor = open_to_read(path, status);
  const auto size = static_cast<size_t>(status.st_size);
  if (size > limit) {
    ::close(descriptor);
    fail("{}: {} bytes, at most {} are read", path.string(), size, limit);
  }
  std::string content(size, '\0');
  size_t have = 0;
  while (have < size) {
    const ssize_t got = ::read(descriptor, content.data() + have, size - have);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    have += static_cast<size_t>(got);
  }
  ::close(descriptor);
  require(have == size, "{}: ends after {} of {} bytes", path.string(), have, size);
  return content;
}

void write_file(const fs::path& path, std::string_view content) {
  AtomicFile file(path);
  file.write(content);
  file.commit();
}

AtomicFile::AtomicFile(fs::path path) : path_(std::move(path)) {
  std::error_code error;
  const auto status = fs::status(path_, error);
  // A device or a pipe cannot be replaced: it is written itself.
  if (!fs::exists(status) || fs::is_regular_file(status)) {
    if (fs::is_symlink(path_, error)) path_ = fs::weakly_canonical(path_);
    beside_ = beside(path_);
  }
  descriptor_ = beside_.empty()
                    ? ::open(path_.c_str(), O_WRONLY | O_CLOEXEC)
                    : ::open(beside_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  require(descriptor_ >= 0, "{}: cannot be written: {}", path_.string(), reason());
}

AtomicFile::~AtomicFile() {
  if (descriptor_ < 0) return;
  ::close(descriptor_);
  if (!beside_.empty()) ::unlink(beside_.c_str());
}

void AtomicFile::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t put = ::write(descriptor_, bytes.data(), bytes.size());
    if (put < 0 && errno == EINTR) continue;
    require(put > 0, "{}: cannot be written: {}", path_.string(), reason());
    bytes = bytes.subspan(static_cast<size_t>(put));
  }
}

void AtomicFile::commit() {
  if (!beside_.empty()) {
    require(::fsync(descriptor_) == 0, "{}: cannot be written: {}", path_.string(), reason());
    require(::rename(beside_.c_str(), path_.c_str()) == 0, "{}: cannot be put in place: {}",
            path_.string(), reason());
  }
  ::close(descriptor_);
  descriptor_ = -1;
}

AtomicDirectory::AtomicDirectory(fs::path path) : path_(std::move(path)) {
  if (!path_.has_filename()) path_ = path_.parent_path();  // "out/" is "out"
  std::error_code error;
  require(!fs::exists(path_, error) || fs::is_empty(path_, error),
          "{}: exists already; name a new folder or remove it first", path_.string());
  beside_ = beside(path_);
  fs::create_directories(beside_, error);
  require(!error, "{}: cannot be made: {}", path_.string(), error.message());
}

AtomicDirectory::~AtomicDirectory() {
  std::error_code ignored;
  if (!beside_.empty()) fs::remove_all(beside_, ignored);
}

void AtomicDirectory::commit() {
  std::error_code error;
  fs::rename(beside_, path_, error);
  require(!error, "{}: cannot be put in place: {}", path_.string(), error.message());
  beside_.clear();
}

}  // namespace cajal
