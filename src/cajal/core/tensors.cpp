#include "cajal/core/tensors.h"

#include <array>
#include <cstring>

#include "cajal/core/error.h"
#include "cajal/core/pytorch_bin.h"
#include "cajal/core/registry.h"
#include "cajal/core/safetensors.h"

namespace cajal {
namespace fs = std::filesystem;
namespace {

struct DtypeRow {
  Dtype dtype;
  std::string_view name;
  size_t bytes;
};
constexpr std::array<DtypeRow, 12> kDtypes = {{
    {Dtype::f64, "F64", 8},
    {Dtype::f32, "F32", 4},
    {Dtype::f16, "F16", 2},
    {Dtype::bf16, "BF16", 2},
    {Dtype::f8_e4m3, "F8_E4M3", 1},
    {Dtype::f8_e5m2, "F8_E5M2", 1},
    {Dtype::i64, "I64", 8},
    {Dtype::i32, "I32", 4},
    {Dtype::i16, "I16", 2},
    {Dtype::i8, "I8", 1},
    {Dtype::u8, "U8", 1},
    {Dtype::boolean, "BOOL", 1},
}};

const DtypeRow& row(Dtype dtype) {
  for (const auto& candidate : kDtypes)
    if (candidate.dtype == dtype) return candidate;
  fail("unnamed dtype {}", static_cast<int>(dtype));
}

enum class Format { safetensors, pytorch_bin, index };

// By content, because a checkpoint keeps its format when it is renamed. The first 8 bytes of a
// safetensors file are a length under 100 MB, which no other format's first bytes can be.
Format format_of(const MappedFile& file) {
  const auto text = file.text();
  if (text.starts_with("PK") || text.starts_with('\x80')) {
    uint64_t length = UINT64_MAX;
    if (text.size() >= 8) std::memcpy(&length, text.data(), sizeof length);
    if (length > text.size()) return Format::pytorch_bin;
  }
  if (file.path().extension() == ".json") return Format::index;
  require(!text.starts_with("version https://git-lfs"),
          "{}: a Git LFS pointer, not the file itself; fetch it with 'git lfs pull'",
          file.path().string());
  return Format::safetensors;
}

StoredTensors read_one(const MappedFile& file) {
  const auto where = file.path().string();
  const auto format = format_of(file);
  require(format != Format::index, "{}: an index, expected a file of tensors", where);
  auto found = format == Format::pytorch_bin ? read_pytorch_bin(file.bytes(), where)
                                             : read_safetensors(file.bytes(), where);
  for (auto& [name, tensor] : found.tensors) tensor.file = &file;
  return found;
}

// The files named by an index, each with the names of the tensors that it must hold.
using Shards = std::map<std::string, std::vector<std::string_view>>;

Shards read_index(const Json& index, const fs::path& path) {
  const auto where = path.string();
  require(index.is_object() && index.contains("weight_map"), "{}: has no 'weight_map'", where);
  const auto& map = index.at("weight_map");
  require(map.is_object() && !map.empty(), "{}: weight_map is not an object with tensors", where);
  Shards shards;
  for (const auto& [tensor, file] : map.items()) {
    require(file.is_string(), "{}: weight_map '{}' is {}, expected a file name", where, tensor,
            file.type_name());
    const auto& name = file.get_ref<const std::string&>();
    const bool inside = !name.empty() && name != "." && name.find("..") == name.npos &&
                        name.find_first_of(std::string_view("/\\\0", 3)) == name.npos;
    require(inside, "{}: weight_map '{}' names the file '{}', which is not one in its folder",
            where, tensor, name);
    shards[name].push_back(tensor);
  }
  return shards;
}

void add_shard(StoredTensors&& shard, const fs::path& file,
               const std::vector<std::string_view>& names, StoredTensors& all) {
  for (const auto name : names) {
    const auto tensor = shard.tensors.find(name);
    require(tensor != shard.tensors.end(), "{}: no tensor '{}', which the index says is here",
            file.string(), name);
    all.tensors.insert(shard.tensors.extract(tensor));
  }
  require(shard.tensors.empty(), "{}: tensor '{}' is not said by the index to be here",
          file.string(), shard.tensors.empty() ? "" : shard.tensors.begin()->first);
  for (const auto& [key, value] : shard.metadata.items())
    if (!all.metadata.contains(key)) all.metadata[key] = value;
  for (auto& copy : shard.copies) all.copies.push_back(std::move(copy));
}

fs::path find_checkpoint(const fs::path& folder) {
  std::error_code error;
  for (const char* name : {"model.safetensors.index.json", "model.safetensors",
                           "pytorch_model.bin.index.json", "pytorch_model.bin"})
    if (fs::exists(folder / name, error)) return folder / name;
  fail("{}: holds neither model.safetensors nor pytorch_model.bin, nor an index of one",
       folder.string());
}

}  // namespace

size_t dtype_bytes(Dtype dtype) { return row(dtype).bytes; }

std::string_view dtype_name(Dtype dtype) { return row(dtype).name; }

Dtype dtype_from_name(std::string_view name, std::string_view where) {
  std::string known;
  for (const auto& candidate : kDtypes) {
    if (candidate.name == name) return candidate.dtype;
    known += (known.empty() ? "" : ", ") + std::string(candidate.name);
  }
  fail("{}: dtype '{}' is not one of {}", where, name, known);
}

size_t tensor_bytes(Dtype dtype, std::span<const int64_t> shape, std::string_view where) {
  int64_t bytes = static_cast<int64_t>(dtype_bytes(dtype));
  for (const int64_t size : shape) {
    require(size >= 0, "{}: shape {} has a negative size", where, shape);
    require(!__builtin_mul_overflow(bytes, size, &bytes), "{}: shape {} is too large", where,
            shape);
  }
  return static_cast<size_t>(bytes);
}

bool is_aligned(const StoredTensor& tensor) {
  return reinterpret_cast<uintptr_t>(tensor.bytes.data()) % dtype_bytes(tensor.dtype) == 0;
}

TensorFile TensorFile::open(const fs::path& path) {
  std::error_code error;
  TensorFile out;
  out.path_ = fs::is_directory(path, error) ? find_checkpoint(path) : path;
  auto first = std::make_shared<const MappedFile>(out.path_);
  if (format_of(*first) != Format::index) {
    out.found_ = read_one(*first);
    out.files_.push_back(std::move(first));
    return out;
  }
  const auto index = parse_json(first->text(), out.path_.string());
  for (const auto& [name, tensors] : read_index(index, out.path_)) {
    const auto& file = *out.files_.emplace_back(
        std::make_shared<const MappedFile>(out.path_.parent_path() / name));
    add_shard(read_one(file), file.path(), tensors, out.found_);
  }
  return out;
}

TensorFile TensorFile::adopt(std::shared_ptr<const MappedFile> file, StoredTensors found) {
  TensorFile out;
  if (file) {
    out.path_ = file->path();
    out.files_.push_back(std::move(file));
  }
  out.found_ = std::move(found);
  return out;
}

const StoredTensor& TensorFile::at(std::string_view name) const {
  const auto found = found_.tensors.find(name);
  if (found != found_.tensors.end()) return found->second;
  std::vector<std::string_view> names;
  for (const auto& [known, tensor] : found_.tensors) names.push_back(known);
  fail("{}: no tensor '{}'{}", path_.string(), name, did_you_mean(name, names));
}

int64_t TensorFile::total_bytes() const {
  int64_t total = 0;
  for (const auto& [name, tensor] : found_.tensors)
    total += static_cast<int64_t>(tensor.bytes.size());
  return total;
}

}  // namespace cajal
