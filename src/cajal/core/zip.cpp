#include "cajal/core/zip.h"

#include <algorithm>
#include <vector>

#include "cajal/core/byte_reader.h"
#include "cajal/core/error.h"

namespace cajal {
namespace {

constexpr uint32_t kLocalHeader = 0x04034b50, kCentralHeader = 0x02014b50, kEnd = 0x06054b50,
                   kEnd64 = 0x06064b50, kLocator64 = 0x07064b50;
constexpr size_t kEndBytes = 22, kLocatorBytes = 20, kMaxComment = 0xffff;
constexpr uint32_t kIn64 = 0xffffffff;  // the true value stands in a ZIP64 field

struct Directory {
  uint64_t offset = 0, bytes = 0, entries = 0;
};

struct Entry {
  std::string_view name;
  uint64_t bytes = 0, header = 0;  // size of the content; where its local header begins
};

struct EntryExtent {
  uint64_t begin, end;
  std::string_view name;
};

uint32_t signature_at(std::span<const std::byte> file, size_t position) {
  uint32_t value = 0;
  if (position <= file.size() && file.size() - position >= sizeof value)
    std::memcpy(&value, file.data() + position, sizeof value);
  return value;
}

// The end record stands last, behind it only its comment.
size_t find_end(std::span<const std::byte> file, std::string_view where) {
  for (size_t comment = 0; comment <= kMaxComment && comment + kEndBytes <= file.size();
       ++comment) {
    const size_t position = file.size() - kEndBytes - comment;
    if (signature_at(file, position) != kEnd) continue;
    ByteReader reader(file, where, position + kEndBytes - 2);
    if (reader.read<uint16_t>() == comment) return position;
  }
  fail("{}: not a ZIP archive, or cut off: it has no end record", where);
}

Directory read_directory64(std::span<const std::byte> file, std::string_view where,
                           size_t locator_at) {
  ByteReader locator(file, where, locator_at + 4);
  locator.take(4);  // disk
  const auto record_at = locator.read<uint64_t>();
  require(record_at <= locator_at && signature_at(file, record_at) == kEnd64,
          "{}: ZIP64 end record expected at byte {}", where, record_at);
  ByteReader record(file, where, record_at + 4);
  const auto length = record.read<uint64_t>();
  require(length == locator_at - record_at - 12, "{}: ZIP64 end record of {} bytes at byte {}",
          where, length, record_at);
  record.take(12);  // versions, disks
  Directory directory;
  require(record.read<uint64_t>() == (directory.entries = record.read<uint64_t>()),
          "{}: an archive in several parts", where);
  directory.bytes = record.read<uint64_t>();
  directory.offset = record.read<uint64_t>();
  require(directory.offset <= record_at && directory.bytes == record_at - directory.offset,
          "{}: the ZIP directory [{}, +{}] does not end where its end record begins at byte {}",
          where, directory.offset, directory.bytes, record_at);
  return directory;
}

Directory read_directory(std::span<const std::byte> file, std::string_view where) {
  const size_t end_at = find_end(file, where);
  if (end_at >= kLocatorBytes && signature_at(file, end_at - kLocatorBytes) == kLocator64)
    return read_directory64(file, where, end_at - kLocatorBytes);
  ByteReader end(file, where, end_at + 8);
  Directory directory;
  const auto here = end.read<uint16_t>();
  directory.entries = end.read<uint16_t>();
  require(here == directory.entries, "{}: an archive in several parts", where);
  directory.bytes = end.read<uint32_t>();
  directory.offset = end.read<uint32_t>();
  require(directory.offset <= end_at && directory.bytes == end_at - directory.offset,
          "{}: the ZIP directory [{}, +{}] does not end where its end record begins at byte {}",
          where, directory.offset, directory.bytes, end_at);
  return directory;
}

// Fills in those of size, packed size and offset that did not fit into 32 bits.
void read_extra64(std::span<const std::byte> extra, const std::string& where, uint64_t& bytes,
                  uint64_t& packed, uint64_t& header) {
  ByteReader fields(extra, where);
  while (fields.remaining() >= 4) {
    const auto tag = fields.read<uint16_t>();
    const auto content = fields.take(fields.read<uint16_t>());
    if (tag != 1) continue;
    ByteReader values(content, where);
    for (uint64_t* value : {&bytes, &packed, &header})
      if (*value == kIn64) *value = values.read<uint64_t>();
  }
}

Entry read_entry(ByteReader& directory, std::string_view where) {
  const size_t at = directory.position();
  require(directory.read<uint32_t>() == kCentralHeader,
          "{}: ZIP directory entry expected at byte {}", where, at);
  directory.take(4);  // versions
  const auto flags = directory.read<uint16_t>(), method = directory.read<uint16_t>();
  directory.take(8);  // time, checksum
  uint64_t packed = directory.read<uint32_t>(), bytes = directory.read<uint32_t>();
  const auto name_bytes = directory.read<uint16_t>(), extra_bytes = directory.read<uint16_t>(),
             comment_bytes = directory.read<uint16_t>();
  directory.take(8);  // disk, attributes
  uint64_t header = directory.read<uint32_t>();
  const auto name = directory.text(name_bytes);
  const auto extra = directory.take(extra_bytes);
  directory.take(comment_bytes);
  const auto entry = fmt::format("{}: entry '{}'", where, name);
  read_extra64(extra, entry, bytes, packed, header);
  require((flags & 1) == 0, "{} is encrypted", entry);
  require(method == 0, "{} is compressed (method {}); only stored entries are read", entry, method);
  require(packed == bytes, "{} is stored, but {} bytes of it are said to be {}", entry, packed,
          bytes);
  return {name, bytes, header};
}

// Where the content of an entry lies: behind its local header, which has a length of its own.
EntryExtent find_content(std::span<const std::byte> file, const Entry& entry, uint64_t directory_at,
                         std::string_view where) {
  const auto name = fmt::format("{}: entry '{}'", where, entry.name);
  require(entry.header < directory_at && signature_at(file, entry.header) == kLocalHeader,
          "{} has no header at byte {}", name, entry.header);
  ByteReader local(file.first(directory_at), name, entry.header + 8);
  require(local.read<uint16_t>() == 0, "{} is compressed; only stored entries are read", name);
  local.take(16);  // time, checksum, sizes: the directory has them
  const auto name_bytes = local.read<uint16_t>(), extra_bytes = local.read<uint16_t>();
  require(local.text(name_bytes) == entry.name, "{} has another name in its own header at byte {}",
          name, entry.header);
  local.take(extra_bytes);
  const size_t begin = local.position();
  local.take(entry.bytes);
  return {begin, local.position(), entry.name};
}

}  // namespace

std::map<std::string_view, std::span<const std::byte>> read_stored_zip(
    std::span<const std::byte> file, std::string_view where) {
  const auto directory = read_directory(file, where);
  ByteReader reader(file.first(directory.offset + directory.bytes), where, directory.offset);
  std::map<std::string_view, std::span<const std::byte>> entries;
  std::vector<EntryExtent> extents;  // local headers and contents
  while (reader.remaining() > 0) {
    const auto entry = read_entry(reader, where);
    const auto content = find_content(file, entry, directory.offset, where);
    require(entries.emplace(entry.name, file.subspan(content.begin, entry.bytes)).second,
            "{}: entry '{}' appears twice", where, entry.name);
    extents.push_back({entry.header, content.end, entry.name});
  }
  require(entries.size() == directory.entries, "{}: {} entries, its end record says {}", where,
          entries.size(), directory.entries);
  std::sort(extents.begin(), extents.end(),
            [](const EntryExtent& a, const EntryExtent& b) { return a.begin < b.begin; });
  for (size_t i = 1; i < extents.size(); ++i)
    require(extents[i - 1].end <= extents[i].begin, "{}: entries '{}' and '{}' overlap", where,
            extents[i - 1].name, extents[i].name);
  return entries;
}

}  // namespace cajal
