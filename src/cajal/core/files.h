#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace cajal {

/// A whole file mapped read-only; pages are read when touched.
class MappedFile {
 public:
  /// Throws Error when the file is missing, unreadable or not a regular file.
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  std::string_view text() const { return {reinterpret_cast<const char*>(data_), size_}; }
  const std::filesystem::path& path() const { return path_; }

  /// Tells the system that these bytes will not be read again soon, so that their pages can go.
  /// Bytes that are not of this file are left alone.
  void forget(std::span<const std::byte> range) const;

 private:
  std::filesystem::path path_;
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

/// The whole file as a string; throws Error when it cannot be read or is larger than `limit` bytes.
std::string read_file(const std::filesystem::path& path, size_t limit = SIZE_MAX);

/// Writes the file beside its place and renames it there, so that a reader never sees half of it.
void write_file(const std::filesystem::path& path, std::string_view content);

/// A file written beside its place; `commit` syncs and renames it there, and without `commit` the
/// destructor removes what was written. A symbolic link stays and its target is replaced; what is
/// no regular file (/dev/stdout) is written itself. Every call throws Error that names the file
/// (disk full, no permission).
class AtomicFile {
 public:
  explicit AtomicFile(std::filesystem::path path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(std::span<const std::byte> bytes);
  void write(std::string_view text) { write(std::as_bytes(std::span(text))); }
  void commit();

 private:
  std::filesystem::path path_, beside_;
  int descriptor_ = -1;
};

/// A folder written beside its place and renamed there by `commit`; removed otherwise.
/// Throws Error when the place is taken by anything but an empty folder, so nothing is overwritten.
class AtomicDirectory {
 public:
  explicit AtomicDirectory(std::filesystem::path path);
  ~AtomicDirectory();
  AtomicDirectory(const AtomicDirectory&) = delete;
  AtomicDirectory& operator=(const AtomicDirectory&) = delete;

  const std::filesystem::path& path() const { return beside_; }  // write files in here
  void commit();

 private:
  std::filesystem::path path_, beside_;
};

}  // namespace cajal
