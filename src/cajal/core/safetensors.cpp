#include "cajal/core/safetensors.h"

#include <algorithm>
#include <set>

#include "cajal/core/byte_reader.h"
#include "cajal/core/error.h"

namespace cajal {
namespace {

constexpr uint64_t kMaxHeader = 100'000'000;  // as the format's own reader has it
constexpr size_t kMaxAxes = 64;

struct TensorExtent {
  uint64_t begin, end;
  const std::string* name;
};

uint64_t size_field(const Json& json, std::string_view where) {
  // An integer written with a sign is not unsigned for the parser, so -0 is refused too.
  require(json.is_number_unsigned() && json.get<uint64_t>() <= INT64_MAX,
          "{} is {}, expected an integer from 0 on", where, json.dump());
  return json.get<uint64_t>();
}

StoredTensor read_entry(const Json& entry, std::span<const std::byte> data,
                        const std::string& where) {
  const auto field = [&](const char* name) -> const Json& {
    const auto found = entry.find(name);
    require(found != entry.end(), "{} has no '{}'", where, name);
    return *found;
  };
  require(entry.is_object(), "{} is {}, expected an object", where, entry.type_name());
  const auto &dtype = field("dtype"), &shape = field("shape"), &offsets = field("data_offsets");
  require(entry.size() == 3, "{} has fields besides dtype, shape and data_offsets", where);
  require(dtype.is_string(), "{}: dtype is {}, expected a name", where, dtype.type_name());
  require(shape.is_array() && shape.size() <= kMaxAxes,
          "{}: shape is not an array of at most {} sizes", where, kMaxAxes);
  require(offsets.is_array() && offsets.size() == 2,
          "{}: data_offsets is not an array of two numbers", where);

  StoredTensor tensor;
  tensor.dtype = dtype_from_name(dtype.get_ref<const std::string&>(), where);
  for (const auto& size : shape)
    tensor.shape.push_back(static_cast<int64_t>(size_field(size, where + ": a size of shape")));
  const uint64_t begin = size_field(offsets[0], where + ": data_offsets[0]");
  const uint64_t end = size_field(offsets[1], where + ": data_offsets[1]");
  require(begin <= end && end <= data.size(),
          "{}: data_offsets [{}, {}] do not lie in the {} bytes of data", where, begin, end,
          data.size());
  const size_t bytes = tensor_bytes(tensor.dtype, tensor.shape, where);
  require(bytes == end - begin, "{}: data_offsets [{}, {}] hold {} bytes, {} {} takes {}", where,
          begin, end, end - begin, dtype_name(tensor.dtype), tensor.shape, bytes);
  tensor.bytes = data.subspan(begin, bytes);
  return tensor;
}

void require_string_metadata(const Json& metadata, std::string_view where) {
  require(metadata.is_object(), "{}: __metadata__ is {}, expected an object", where,
          metadata.type_name());
  for (const auto& [key, value] : metadata.items())
    require(value.is_string(), "{}: __metadata__ '{}' is {}, expected a string", where, key,
            value.type_name());
}

// Bytes that belong to no tensor could hide anything, so there must be none.
void require_whole_cover(std::vector<TensorExtent> extents, uint64_t size, std::string_view where) {
  std::sort(extents.begin(), extents.end(), [](const TensorExtent& a, const TensorExtent& b) {
    return a.begin != b.begin ? a.begin < b.begin : a.end < b.end;
  });
  uint64_t covered = 0;
  for (const auto& extent : extents) {
    require(extent.begin >= covered,
            "{}: tensor '{}' begins at byte {} of the data, inside another", where, *extent.name,
            extent.begin);
    require(extent.begin == covered,
            "{}: tensor '{}' begins at byte {} of the data, {} bytes before it belong to no tensor",
            where, *extent.name, extent.begin, extent.begin - covered);
    covered = extent.end;
  }
  require(covered == size, "{}: the tensors end at byte {} of the data, the file at byte {}", where,
          covered, size);
}

std::string quoted(const std::string& text, std::string_view where) {
  try {
    return Json(text).dump();
  } catch (const Json::exception&) {
    fail("{}: '{}' is not valid UTF-8", where, text);
  }
}

}  // namespace

StoredTensors read_safetensors(std::span<const std::byte> file, std::string_view where) {
  require(file.size() >= 8, "{}: {} bytes, too short for a safetensors file", where, file.size());
  ByteReader reader(file, where);
  const auto length = reader.read<uint64_t>();
  require(length <= kMaxHeader, "{}: not a safetensors file, or its header of {} bytes is over {}",
          where, length, kMaxHeader);
  require(length <= reader.remaining(), "{}: cut off: the header ends at byte {}, the file at {}",
          where, 8 + length, file.size());
  const auto text = reader.text(length);
  require(text.starts_with('{'), "{}: not a safetensors file: its header does not begin with '{{'",
          where);
  const auto data = file.subspan(8 + length);
  const auto header =
      parse_json(text, fmt::format("{}: header", where), {.depth = 3, .bytes = kMaxHeader});

  StoredTensors found;
  std::vector<TensorExtent> extents;
  for (const auto& [name, entry] : header.items()) {
    if (name == "__metadata__") {
      require_string_metadata(entry, where);
      found.metadata = entry;
      continue;
    }
    const auto place = found.tensors.emplace(
        name, read_entry(entry, data, fmt::format("{}: tensor '{}'", where, name)));
    const auto begin = static_cast<uint64_t>(place.first->second.bytes.data() - data.data());
    extents.push_back({begin, begin + place.first->second.bytes.size(), &place.first->first});
  }
  require_whole_cover(std::move(extents), data.size(), where);
  return found;
}

std::string safetensors_header(const std::vector<TensorToWrite>& tensors, const Json& metadata,
                               std::string_view where) {
  require_string_metadata(metadata, where);
  std::string header(8, '\0');
  header += '{';
  if (!metadata.empty()) {
    header += "\"__metadata__\":{";
    for (const auto& [key, value] : metadata.items())
      header += fmt::format("{}{}:{}", header.back() == '{' ? "" : ",", quoted(key, where),
                            quoted(value.get_ref<const std::string&>(), where));
    header += '}';
  }
  std::set<std::string_view> names = {"__metadata__"};
  uint64_t begin = 0;
  for (const auto& tensor : tensors) {
    require(names.insert(tensor.name).second, "{}: tensor '{}' is taken as a name already", where,
            tensor.name);
    const size_t bytes = tensor_bytes(tensor.dtype, tensor.shape,
                                      fmt::format("{}: tensor '{}'", where, tensor.name));
    require(bytes == tensor.bytes.size(), "{}: tensor '{}' has {} bytes, {} {} takes {}", where,
            tensor.name, tensor.bytes.size(), dtype_name(tensor.dtype), tensor.shape, bytes);
    header +=
        fmt::format(R"({}{}:{{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}})",
                    header.back() == '{' ? "" : ",", quoted(tensor.name, where),
                    dtype_name(tensor.dtype), fmt::join(tensor.shape, ","), begin, begin + bytes);
    begin += bytes;
  }
  header += '}';
  header.resize((header.size() + 63) / 64 * 64, ' ');
  const uint64_t length = header.size() - 8;
  require(length <= kMaxHeader, "{}: a header of {} bytes is over {}", where, length, kMaxHeader);
  std::memcpy(header.data(), &length, sizeof length);
  return header;
}

void write_safetensors(const std::filesystem::path& path, const std::vector<TensorToWrite>& tensors,
                       const Json& metadata) {
  auto ordered = tensors;
  std::stable_sort(ordered.begin(), ordered.end(), [](const auto& a, const auto& b) {
    return dtype_bytes(a.dtype) > dtype_bytes(b.dtype);
  });
  const auto header = safetensors_header(ordered, metadata, path.string());
  AtomicFile file(path);
  file.write(header);
  for (const auto& tensor : ordered) file.write(tensor.bytes);
  file.commit();
}

}  // namespace cajal
