#include <set>

#include "cajal/core/error.h"
#include "cajal/core/gguf.h"

namespace cajal {
namespace {

using GgufKind = GgufValue::Kind;

constexpr uint64_t kAlignment = 32;

template <class T>
void append(std::string& out, const T& value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

void append_text(std::string& out, std::string_view text) {
  append(out, static_cast<uint64_t>(text.size()));
  out.append(text);
}

template <class T>
constexpr GgufKind kKind = GgufKind::u32;
template <>
constexpr GgufKind kKind<int32_t> = GgufKind::i32;
template <>
constexpr GgufKind kKind<uint64_t> = GgufKind::u64;
template <>
constexpr GgufKind kKind<float> = GgufKind::f32;
template <>
constexpr GgufKind kKind<bool> = GgufKind::boolean;
template <>
constexpr GgufKind kKind<std::string> = GgufKind::string;

template <class T>
void append_element(std::string& out, const T& value) {
  if constexpr (std::is_same_v<T, std::string>) {
    append_text(out, value);
  } else {
    append(out, value);
  }
}

struct SettingWriter {
  std::string& out;

  template <class T>
  void operator()(const T& value) const {
    append(out, kKind<T>);
    append_element(out, value);
  }
  template <class T>
  void operator()(const std::vector<T>& values) const {
    append(out, GgufKind::array);
    append(out, kKind<T>);
    append(out, static_cast<uint64_t>(values.size()));
    for (const auto& value : values) append_element(out, value);
  }
  void operator()(const GgufValue& value) const {  // as it lies in another file
    append(out, value.kind);
    if (value.kind == GgufKind::array) {
      append(out, value.element);
      append(out, value.count);
    }
    out.append(reinterpret_cast<const char*>(value.bytes.data()), value.bytes.size());
  }
};

std::string padding(uint64_t position) {
  return std::string((kAlignment - position % kAlignment) % kAlignment, '\0');
}

}  // namespace

void write_gguf(const std::filesystem::path& path,
                const std::vector<std::pair<std::string, GgufSetting>>& settings,
                const std::vector<GgufTensorToWrite>& tensors) {
  const auto where = path.string();
  std::string head = "GGUF";
  append(head, uint32_t{3});
  append(head, static_cast<uint64_t>(tensors.size()));
  append(head, static_cast<uint64_t>(settings.size()));
  std::set<std::string_view> names;
  for (const auto& [key, value] : settings) {
    require(names.insert(key).second, "{}: setting '{}' is given twice", where, key);
    append_text(head, key);
    std::visit(SettingWriter{head}, value);
  }
  names.clear();
  uint64_t offset = 0;
  std::vector<uint64_t> sizes;
  for (const auto& tensor : tensors) {
    require(names.insert(tensor.name).second, "{}: tensor '{}' is given twice", where, tensor.name);
    append_text(head, tensor.name);
    append(head, static_cast<uint32_t>(tensor.shape.size()));
    for (size_t axis = tensor.shape.size(); axis-- > 0;)
      append(head, static_cast<uint64_t>(tensor.shape[axis]));
    append(head, tensor.type->id);
    append(head, offset);
    sizes.push_back(static_cast<uint64_t>(gguf_bytes(
        *tensor.type, tensor.shape, fmt::format("{}: tensor '{}'", where, tensor.name))));
    offset += sizes.back() + padding(sizes.back()).size();
  }
  head += padding(head.size());
  AtomicFile file(path);
  file.write(head);
  for (size_t i = 0; i < tensors.size(); ++i) {
    const auto bytes = tensors[i].bytes();
    require(bytes.size() == sizes[i], "{}: tensor '{}' has {} bytes, {} {} takes {}", where,
            tensors[i].name, bytes.size(), tensors[i].type->name, tensors[i].shape, sizes[i]);
    file.write(bytes);
    file.write(padding(bytes.size()));
  }
  file.commit();
}

}  // namespace cajal
