#include "cajal/core/gguf.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

#include "cajal/core/byte_reader.h"
#include "cajal/core/error.h"

namespace cajal {
namespace {

constexpr uint64_t kMaxAlignment = 1 << 16;
constexpr uint32_t kMaxGgufAxes = 4;
constexpr int kMaxNesting = 4;  // arrays of arrays
constexpr size_t kMaxNameBytes = 65535;

constexpr std::array<GgufType, 11> kTypes = {{{0, "F32", 1, 4},
                                              {1, "F16", 1, 2},
                                              {30, "BF16", 1, 2},
                                              {8, "Q8_0", 32, 34},
                                              {2, "Q4_0", 32, 18},
                                              {3, "Q4_1", 32, 20},
                                              {6, "Q5_0", 32, 22},
                                              {7, "Q5_1", 32, 24},
                                              {12, "Q4_K", 256, 144},
                                              {13, "Q5_K", 256, 176},
                                              {14, "Q6_K", 256, 210}}};

// For messages: types that ggml has and that are not read here.
constexpr std::pair<uint32_t, std::string_view> kOtherTypes[] = {
    {9, "Q8_1"},     {10, "Q2_K"},  {11, "Q3_K"},   {15, "Q8_K"},  {16, "IQ2_XXS"}, {17, "IQ2_XS"},
    {18, "IQ3_XXS"}, {19, "IQ1_S"}, {20, "IQ4_NL"}, {21, "IQ3_S"}, {22, "IQ2_S"},   {23, "IQ4_XS"},
    {24, "I8"},      {25, "I16"},   {26, "I32"},    {27, "I64"},   {28, "F64"},     {29, "IQ1_M"},
    {34, "TQ1_0"},   {35, "TQ2_0"}, {39, "MXFP4"}};

std::string known_types() {
  std::string names;
  for (const auto& type : kTypes) names += (names.empty() ? "" : ", ") + std::string(type.name);
  return names;
}

using GgufKind = GgufValue::Kind;

size_t kind_bytes(GgufKind kind) {  // 0: not of a fixed size
  switch (kind) {
    case GgufKind::u8:
    case GgufKind::i8:
    case GgufKind::boolean:
      return 1;
    case GgufKind::u16:
    case GgufKind::i16:
      return 2;
    case GgufKind::u32:
    case GgufKind::i32:
    case GgufKind::f32:
      return 4;
    case GgufKind::u64:
    case GgufKind::i64:
    case GgufKind::f64:
      return 8;
    default:
      return 0;
  }
}

const char* kind_name(GgufKind kind) {
  static constexpr const char* kNames[] = {"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                           "bool", "string", "array", "u64", "i64", "f64"};
  return kNames[static_cast<size_t>(kind)];
}

GgufKind read_kind(ByteReader& reader, const std::string& where) {
  const auto kind = reader.read<uint32_t>();
  require(kind <= static_cast<uint32_t>(GgufKind::f64), "{}: value type {}, expected 0 to 12",
          where, kind);
  return static_cast<GgufKind>(kind);
}

std::string_view read_text(ByteReader& reader) { return reader.text(reader.read<uint64_t>()); }

// Walks over `count` elements of a kind; what lies between the two positions is their bytes.
void skip(ByteReader& reader, GgufKind kind, uint64_t count, int depth, const std::string& where) {
  if (const size_t size = kind_bytes(kind); size > 0) {
    require(count <= reader.remaining() / size,
            "{}: {} elements of {} bytes do not fit in the {} bytes that follow", where, count,
            size, reader.remaining());
    reader.take(count * size);
    return;
  }
  // A string takes 8 bytes at least, an array 12: a count that cannot fit is not tried.
  require(count <= reader.remaining() / 8, "{}: {} elements do not fit in the {} bytes that follow",
          where, count, reader.remaining());
  require(kind == GgufKind::string || depth < kMaxNesting, "{}: arrays nested deeper than {}",
          where, kMaxNesting);
  for (uint64_t i = 0; i < count; ++i) {
    if (kind == GgufKind::string) {
      read_text(reader);
      continue;
    }
    const GgufKind element = read_kind(reader, where);
    const auto inner = reader.read<uint64_t>();
    skip(reader, element, inner, depth + 1, where);
  }
}

template <class T>
T load(std::span<const std::byte> bytes, size_t index = 0) {
  T value;
  std::memcpy(&value, bytes.data() + index * sizeof value, sizeof value);
  return value;
}

// Element `index` of numbers of a kind, as a double or an exact integer.
double as_number(GgufKind kind, std::span<const std::byte> bytes, size_t index) {
  switch (kind) {
    case GgufKind::u8:
      return load<uint8_t>(bytes, index);
    case GgufKind::i8:
      return load<int8_t>(bytes, index);
    case GgufKind::u16:
      return load<uint16_t>(bytes, index);
    case GgufKind::i16:
      return load<int16_t>(bytes, index);
    case GgufKind::u32:
      return load<uint32_t>(bytes, index);
    case GgufKind::i32:
      return load<int32_t>(bytes, index);
    case GgufKind::u64:
      return static_cast<double>(load<uint64_t>(bytes, index));
    case GgufKind::i64:
      return static_cast<double>(load<int64_t>(bytes, index));
    case GgufKind::f32:
      return load<float>(bytes, index);
    default:
      return load<double>(bytes, index);
  }
}

bool is_integer(GgufKind kind) {
  return kind_bytes(kind) > 0 && kind != GgufKind::f32 && kind != GgufKind::f64 &&
         kind != GgufKind::boolean;
}

bool is_number(GgufKind kind) { return kind_bytes(kind) > 0 && kind != GgufKind::boolean; }

int64_t as_integer(GgufKind kind, std::span<const std::byte> bytes, size_t index,
                   const std::string& where) {
  if (kind == GgufKind::i64) return load<int64_t>(bytes, index);
  if (kind != GgufKind::u64) return static_cast<int64_t>(as_number(kind, bytes, index));
  const auto value = load<uint64_t>(bytes, index);
  require(value <= INT64_MAX, "{} is {}, expected at most {}", where, value, INT64_MAX);
  return static_cast<int64_t>(value);
}

struct Extent {
  uint64_t begin, end;
  const std::string* name;
};

void refuse_overlap(std::vector<Extent> extents, std::string_view where) {
  std::sort(extents.begin(), extents.end(),
            [](const Extent& a, const Extent& b) { return a.begin < b.begin; });
  for (size_t i = 1; i < extents.size(); ++i)
    require(extents[i].begin >= extents[i - 1].end,
            "{}: tensor '{}' begins at byte {} of the data, inside '{}'", where, *extents[i].name,
            extents[i].begin, *extents[i - 1].name);
}

}  // namespace

const GgufType& gguf_type(uint32_t id, std::string_view where) {
  for (const auto& type : kTypes)
    if (type.id == id) return type;
  for (const auto& [other, name] : kOtherTypes)
    if (other == id) fail("{} is of type {}, expected one of {}", where, name, known_types());
  fail("{} is of type {}, which is none of ggml's; expected one of {}", where, id, known_types());
}

const GgufType& gguf_type(std::string_view name, std::string_view where) {
  for (const auto& type : kTypes)
    if (type.name == name) return type;
  fail("{}: type '{}' is not one of {}", where, name, known_types());
}

Gguf Gguf::open(const std::filesystem::path& path) {
  Gguf out;
  out.where_ = path.string();
  out.file_ = std::make_shared<const MappedFile>(path);
  out.bytes_ = out.file_->bytes();
  out.read();
  return out;
}

Gguf Gguf::parse(std::span<const std::byte> bytes, std::string where) {
  Gguf out;
  out.where_ = std::move(where);
  out.bytes_ = bytes;
  out.read();
  return out;
}

void Gguf::read() {
  ByteReader reader(bytes_, where_);
  require(bytes_.size() >= 24 && reader.text(4) == "GGUF", "{}: not a GGUF file", where_);
  const auto version = reader.read<uint32_t>();
  require(version == 2 || version == 3, "{}: GGUF version {}, expected 2 or 3{}", where_, version,
          version != 0 && (version & 0xffff) == 0 ? " (a big-endian file?)" : "");
  const auto tensors = reader.read<uint64_t>(), settings = reader.read<uint64_t>();
  // The shortest tensor entry takes 8 + 4 + 8 + 4 + 8 bytes, the shortest setting 8 + 4 + 1.
  require(settings <= reader.remaining() / 13, "{}: {} settings do not fit in {} bytes", where_,
          settings, bytes_.size());
  require(tensors <= reader.remaining() / 32, "{}: {} tensors do not fit in {} bytes", where_,
          tensors, bytes_.size());
  for (uint64_t i = 0; i < settings; ++i) {
    const std::string key(read_text(reader));
    require(!key.empty() && key.size() <= kMaxNameBytes, "{}: setting {} has a name of {} bytes",
            where_, i, key.size());
    const auto at = fmt::format("{}: {}", where_, key);
    GgufValue value;
    value.kind = read_kind(reader, at);
    if (value.kind == GgufKind::array) {
      value.element = read_kind(reader, at);
      value.count = reader.read<uint64_t>();
    }
    const size_t begin = reader.position();
    skip(reader, value.kind == GgufKind::array ? value.element : value.kind, value.count,
         value.kind == GgufKind::array ? 1 : 0, at);
    value.bytes = bytes_.subspan(begin, reader.position() - begin);
    require(settings_.emplace(key, value).second, "{}: setting '{}' is given twice", where_, key);
  }
  const int64_t asked = integer("general.alignment").value_or(32);
  require(asked >= 8 && asked <= static_cast<int64_t>(kMaxAlignment) &&
              std::has_single_bit(static_cast<uint64_t>(asked)),
          "{}: general.alignment is {}, expected a power of 2 from 8 to {}", where_, asked,
          kMaxAlignment);
  const auto alignment = static_cast<uint64_t>(asked);

  std::vector<uint64_t> offsets;
  for (uint64_t i = 0; i < tensors; ++i) {
    std::string name(read_text(reader));
    require(!name.empty() && name.size() <= kMaxNameBytes, "{}: tensor {} has a name of {} bytes",
            where_, i, name.size());
    const auto at = fmt::format("{}: tensor '{}'", where_, name);
    GgufTensor tensor;
    const auto axes = reader.read<uint32_t>();
    require(axes >= 1 && axes <= kMaxGgufAxes, "{} has {} axes, expected 1 to {}", at, axes,
            kMaxGgufAxes);
    for (uint32_t axis = 0; axis < axes; ++axis) {
      const auto size = reader.read<uint64_t>();
      require(size >= 1 && size <= INT64_MAX, "{}: size {} of an axis is out of range", at, size);
      tensor.shape.insert(tensor.shape.begin(), static_cast<int64_t>(size));
    }
    tensor.type = &gguf_type(reader.read<uint32_t>(), at);
    offsets.push_back(reader.read<uint64_t>());
    require(offsets.back() % alignment == 0,
            "{} begins at byte {} of the data, expected a multiple of {}", at, offsets.back(),
            alignment);
    require(by_name_.emplace(name, tensors_.size()).second, "{} is given twice", at);
    tensors_.emplace_back(std::move(name), std::move(tensor));
  }
  const uint64_t start = (reader.position() + alignment - 1) / alignment * alignment;
  const uint64_t room = start <= bytes_.size() ? bytes_.size() - start : 0;
  std::vector<Extent> extents;
  for (size_t i = 0; i < tensors_.size(); ++i) {
    auto& [name, tensor] = tensors_[i];
    const auto at = fmt::format("{}: tensor '{}'", where_, name);
    const auto bytes = static_cast<uint64_t>(gguf_bytes(*tensor.type, tensor.shape, at));
    require(offsets[i] <= room && bytes <= room - offsets[i],
            "{} takes {} bytes from byte {} of the data on, which has {}", at, bytes, offsets[i],
            room);
    tensor.bytes = bytes_.subspan(start + offsets[i], bytes);
    extents.push_back({offsets[i], offsets[i] + bytes, &name});
  }
  refuse_overlap(std::move(extents), where_);
}

int64_t gguf_bytes(const GgufType& type, std::span<const int64_t> shape, std::string_view where) {
  require(!shape.empty() && shape.back() % type.values == 0,
          "{}: rows of {} have {} values, expected a multiple of {}", where, type.name,
          shape.empty() ? 0 : shape.back(), type.values);
  int64_t bytes = shape.back() / type.values;
  bool fits = !__builtin_mul_overflow(bytes, type.bytes, &bytes);
  for (size_t axis = 0; axis + 1 < shape.size(); ++axis)
    fits = fits && !__builtin_mul_overflow(bytes, shape[axis], &bytes);
  require(fits && bytes >= 0, "{}: shape {} is too large", where, shape);
  return bytes;
}

const GgufTensor* Gguf::find_tensor(std::string_view name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : &tensors_[found->second].second;
}

namespace {

[[noreturn]] void wrong_kind(const std::string& where, std::string_view key, const GgufValue& value,
                             const char* expected) {
  fail("{}: {} is {}{}, expected {}", where, key,
       value.kind == GgufKind::array ? "an array of " : "",
       kind_name(value.kind == GgufKind::array ? value.element : value.kind), expected);
}

}  // namespace

bool Gguf::is_array(std::string_view key) const {
  const auto found = settings_.find(key);
  return found != settings_.end() && found->second.kind == GgufKind::array;
}

std::optional<int64_t> Gguf::integer(std::string_view key) const {
  const auto found = settings_.find(key);
  if (found == settings_.end()) return {};
  const auto& value = found->second;
  if (!is_integer(value.kind)) wrong_kind(where_, key, value, "an integer");
  return as_integer(value.kind, value.bytes, 0, fmt::format("{}: {}", where_, key));
}

std::optional<double> Gguf::number(std::string_view key) const {
  const auto found = settings_.find(key);
  if (found == settings_.end()) return {};
  const auto& value = found->second;
  if (!is_number(value.kind)) wrong_kind(where_, key, value, "a number");
  const double number = as_number(value.kind, value.bytes, 0);
  require(std::isfinite(number), "{}: {} is {}, expected a finite number", where_, key, number);
  return number;
}

std::optional<bool> Gguf::flag(std::string_view key) const {
  const auto found = settings_.find(key);
  if (found == settings_.end()) return {};
  const auto& value = found->second;
  if (value.kind != GgufKind::boolean) wrong_kind(where_, key, value, "true or false");
  return load<uint8_t>(value.bytes) != 0;
}

std::optional<std::string_view> Gguf::text(std::string_view key) const {
  const auto found = settings_.find(key);
  if (found == settings_.end()) return {};
  const auto& value = found->second;
  if (value.kind != GgufKind::string) wrong_kind(where_, key, value, "a string");
  ByteReader reader(value.bytes, where_);
  return read_text(reader);
}

std::vector<std::string_view> Gguf::texts(std::string_view key) const {
  const auto found = settings_.find(key);
  if (found == settings_.end()) return {};
  const auto& value = found->second;
  if (value.kind != GgufKind::array || value.element != GgufKind::string)
    wrong_kind(where_, key, value, "an array of strings");
  std::vector<std::string_view> out;
  out.reserve(value.count);
  ByteReader reader(value.bytes, where_);
  for (uint64_t i = 0; i < value.count; ++i) out.push_back(read_text(reader));
  return out;
}

std::vector<int64_t> Gguf::integers(std::string_view key) const {
  const auto found = settings_.find(key);
  if (found == settings_.end()) return {};
  const auto& value = found->second;
  if (value.kind != GgufKind::array || !is_integer(value.element))
    wrong_kind(where_, key, value, "an array of integers");
  std::vector<int64_t> out(value.count);
  const auto at = fmt::format("{}: {}", where_, key);
  for (size_t i = 0; i < out.size(); ++i) out[i] = as_integer(value.element, value.bytes, i, at);
  return out;
}

std::vector<double> Gguf::numbers(std::string_view key) const {
  const auto found = settings_.find(key);
  if (found == settings_.end()) return {};
  const auto& value = found->second;
  if (value.kind != GgufKind::array || !is_number(value.element))
    wrong_kind(where_, key, value, "an array of numbers");
  std::vector<double> out(value.count);
  for (size_t i = 0; i < out.size(); ++i) {
    out[i] = as_number(value.element, value.bytes, i);
    require(std::isfinite(out[i]), "{}: {}[{}] is {}, expected a finite number", where_, key, i,
            out[i]);
  }
  return out;
}

}  // namespace cajal
