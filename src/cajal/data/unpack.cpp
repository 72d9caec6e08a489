#include "cajal/data/unpack.h"

#include "cajal/core/error.h"
#include "cajal/core/files.h"

#ifdef CAJAL_ARCHIVE
#include <archive.h>
#include <archive_entry.h>

#include <memory>
#include <string>
#include <vector>
#endif

namespace cajal::data {
namespace fs = std::filesystem;

#ifdef CAJAL_ARCHIVE

namespace {

// An archive being read, and what it may still give.
class Reader {
 public:
  Reader(const fs::path& path, const UnpackLimits& limits)
      : name_(path.string()), archive_(archive_read_new()), files_left_(limits.files) {
    require(archive_ != nullptr, "{}: libarchive could not start", name_);
    std::error_code error;
    const auto size = fs::file_size(path, error);
    require(!error, "{}: cannot be read: {}", name_, error.message());
    bytes_left_ = limits.bytes + limits.ratio * static_cast<int64_t>(size);

    archive_read_support_filter_gzip(archive_.get());
    archive_read_support_filter_xz(archive_.get());
    archive_read_support_format_tar(archive_.get());
    archive_read_support_format_zip(archive_.get());
    constexpr size_t kBlock = size_t{1} << 16;
    check(archive_read_open_filename(archive_.get(), path.c_str(), kBlock));
  }

  /// The next entry, or null after the last one.
  archive_entry* next() {
    archive_entry* entry = nullptr;
    const int status = archive_read_next_header(archive_.get(), &entry);
    if (status == ARCHIVE_EOF) return nullptr;
    check(status);
    require(files_left_-- > 0, "{}: holds too many files", name_);
    return entry;
  }

  void copy_data(AtomicFile& out) {
    for (;;) {
      const auto got = archive_read_data(archive_.get(), buffer_.data(), buffer_.size());
      if (got == 0) return;
      require(got > 0, "{}: damaged: {}", name_, message());
      bytes_left_ -= got;
      require(bytes_left_ >= 0, "{}: grows far beyond its size when unpacked; refused", name_);
      out.write(std::string_view(buffer_.data(), static_cast<size_t>(got)));
    }
  }

  const std::string& name() const { return name_; }

 private:
  // A warning is refused too: it stands for a header that libarchive did not fully understand.
  void check(int status) { require(status == ARCHIVE_OK, "{}: damaged: {}", name_, message()); }

  const char* message() const {
    const char* text = archive_error_string(archive_.get());
    return text ? text : "unknown format";
  }

  struct Free {
    void operator()(archive* a) const { archive_read_free(a); }
  };
  std::string name_;
  std::unique_ptr<archive, Free> archive_;
  int64_t bytes_left_ = 0, files_left_;
  std::vector<char> buffer_ = std::vector<char>(size_t{1} << 16);
};

// The entry's name as a path below the target; refuses what could lead out of it.
fs::path inner_path(const Reader& reader, archive_entry* entry) {
  const char* name = archive_entry_pathname(entry);
  require(name && *name, "{}: holds a file without a readable name", reader.name());
  const fs::path path(name);
  require(path.is_relative() && std::string_view(name).find('\\') == std::string_view::npos,
          "{}: '{}' is not a relative path; refused", reader.name(), name);
  for (const auto& part : path)
    require(part != "..", "{}: '{}' leads out of its folder; refused", reader.name(), name);
  return path.lexically_normal();
}

}  // namespace

void extract(const fs::path& archive, const fs::path& folder, const UnpackLimits& limits) {
  Reader reader(archive, limits);
  AtomicDirectory out(folder);
  bool empty = true;
  while (auto* entry = reader.next()) {
    const auto inner = inner_path(reader, entry);
    const auto path = out.path() / inner;
    const auto type = archive_entry_filetype(entry);
    require((type == AE_IFREG || type == AE_IFDIR) && !archive_entry_hardlink(entry),
            "{}: '{}' is a link or device; refused", reader.name(), inner.string());
    std::error_code error;
    fs::create_directories(type == AE_IFDIR ? path : path.parent_path(), error);
    require(!error, "{}: '{}' cannot be made: {}", reader.name(), inner.string(), error.message());
    if (type == AE_IFDIR) continue;
    require(!fs::exists(path), "{}: holds '{}' twice", reader.name(), inner.string());
    AtomicFile file(path);
    reader.copy_data(file);
    file.commit();
    empty = false;
  }
  require(!empty, "{}: holds no files", reader.name());
  out.commit();
}

#else

void extract(const fs::path& archive, const fs::path&, const UnpackLimits&) {
  fail("{}: this build has no libarchive, so it cannot unpack; install it and build again",
       archive.string());
}

#endif

}  // namespace cajal::data
