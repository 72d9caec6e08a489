#pragma once
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

/// Writes pickles and archives as torch.save does, well-formed or not, for tests of their readers.
namespace torch_archive {

template <class T>
std::string number(T value) {
  std::string out(sizeof value, '\0');
  std::memcpy(out.data(), &value, sizeof value);
  return out;
}

inline std::string text(std::string_view value) {
  return std::string("X") + number(static_cast<uint32_t>(value.size())) + std::string(value);
}
inline std::string integer(int64_t value) { return std::string("\x8a\x08") + number(value); }
inline std::string global(const std::string& module, const std::string& name) {
  return std::string("c") + module + "\n" + name + "\n";
}
inline std::string tuple(const std::vector<int64_t>& values) {
  std::string out = "(";
  for (const auto value : values) out += integer(value);
  return out + "t";
}
inline std::string pickle(const std::string& body) { return std::string("\x80\x02") + body + "."; }

struct Tensor {
  std::string key = "0";
  int64_t elements = 6;  // of its storage
  std::vector<int64_t> shape = {2, 3}, strides = {3, 1};
  int64_t offset = 0;
  std::string storage = "FloatStorage";
};

/// A call of torch._utils._rebuild_tensor_v2.
inline std::string tensor(const Tensor& t) {
  return global("torch._utils", "_rebuild_tensor_v2") + "((" + text("storage") +
         global("torch", t.storage) + text(t.key) + text("cpu") + integer(t.elements) + "tQ" +
         integer(t.offset) + tuple(t.shape) + tuple(t.strides) + "\x89" +
         global("collections", "OrderedDict") + ")RtR";
}

/// A dict of the pickled values.
inline std::string dict(const std::vector<std::pair<std::string, std::string>>& items) {
  std::string out = "}(";
  for (const auto& [name, value] : items) out += text(name) + value;
  return out + "u";
}

struct ZipEntry {
  std::string name, content;
  uint16_t method = 0;
};

/// A ZIP archive of stored entries; with `zip64`, sizes and offsets stand in ZIP64 fields.
inline std::string zip(const std::vector<ZipEntry>& entries, bool zip64 = false) {
  std::string out, directory;
  for (const auto& entry : entries) {
    const uint64_t offset = out.size(), size = entry.content.size();
    const auto small = [&](uint64_t value) {
      return number(zip64 ? 0xffffffffu : static_cast<uint32_t>(value));
    };
    const auto name_size = number(static_cast<uint16_t>(entry.name.size()));
    const auto kind = number<uint16_t>(0x0808) + number(entry.method) + std::string(8, '\0');
    out += std::string("PK\3\4") + number<uint16_t>(0) + kind + small(size) + small(size) +
           name_size + number<uint16_t>(0) + entry.name + entry.content;
    const auto extra = zip64 ? number<uint16_t>(1) + number<uint16_t>(24) + number(size) +
                                   number(size) + number(offset)
                             : std::string();
    directory += std::string("PK\1\2") + number<uint32_t>(0) + kind + small(size) + small(size) +
                 name_size + number(static_cast<uint16_t>(extra.size())) + std::string(10, '\0') +
                 small(offset) + entry.name + extra;
  }
  const uint64_t offset = out.size(), count = entries.size(), size = directory.size();
  out += directory;
  if (zip64) {
    const uint64_t record = out.size();
    out += std::string("PK\6\6") + number<uint64_t>(44) + std::string(12, '\0') + number(count) +
           number(count) + number(size) + number(offset);
    out += std::string("PK\6\7") + number<uint32_t>(0) + number(record) + number<uint32_t>(1);
  }
  const auto few = number(static_cast<uint16_t>(zip64 ? 0xffff : count));
  return out + "PK\5\6" + number<uint32_t>(0) + few + few +
         number(zip64 ? 0xffffffffu : static_cast<uint32_t>(size)) +
         number(zip64 ? 0xffffffffu : static_cast<uint32_t>(offset)) + number<uint16_t>(0);
}

/// What torch.save writes for that pickle and those storages.
inline std::string archive(const std::string& object,
                           const std::vector<std::pair<std::string, std::string>>& storages) {
  std::vector<ZipEntry> entries = {{"m/data.pkl", pickle(object)}, {"m/byteorder", "little"}};
  for (const auto& [key, content] : storages) entries.push_back({"m/data/" + key, content});
  return zip(entries);
}

/// What torch.save wrote before PyTorch 1.6.
inline std::string legacy(const std::string& object,
                          const std::vector<std::pair<std::string, std::string>>& storages,
                          size_t element_bytes) {
  std::string keys, data;
  for (const auto& [key, content] : storages) {
    keys += text(key);
    data += number(static_cast<int64_t>(content.size() / element_bytes)) + content;
  }
  return pickle("\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19") + pickle(integer(1001)) +
         pickle("}(" + text("little_endian") + "\x88u") + pickle(object) +
         pickle("](" + keys + "e") + data;
}

}  // namespace torch_archive
