#pragma once
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

#include "cajal/core/options.h"

namespace cajal::data {

/// Where the bytes of an unfinished download came from, kept beside it, so that a later run
/// resumes only the same file of the same server.
struct PartialOrigin {
  std::string url, etag, last_modified;
  int64_t total = -1;  // bytes of the whole file; -1: the server did not say
};
CAJAL_OPTIONS(PartialOrigin, url, etag, last_modified, total)

/// TARGET.partial: what has come of a file so far, and at the same time the lock on its download.
class PartialFile {
 public:
  /// Opens or makes it and waits until no other process holds it. Throws Error naming the file.
  explicit PartialFile(const std::filesystem::path& target);
  ~PartialFile();  // an empty one is removed
  PartialFile(const PartialFile&) = delete;
  PartialFile& operator=(const PartialFile&) = delete;

  const std::filesystem::path& path() const { return path_; }
  int64_t size() const { return size_; }
  const PartialOrigin& origin() const { return origin_; }

  /// Starts anew with bytes from there.
  void restart(const PartialOrigin& origin);
  void append(std::span<const char> bytes);

  /// Puts the file in its place; throws Error when something came there meanwhile.
  void finish();

 private:
  std::filesystem::path target_, path_, origin_path_;
  PartialOrigin origin_;
  int descriptor_ = -1;
  int64_t size_ = 0;
};

}  // namespace cajal::data
