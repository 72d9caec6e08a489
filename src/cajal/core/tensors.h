#pragma once
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cajal/core/files.h"
#include "cajal/core/json.h"

namespace cajal {

/// Element types of stored tensors, named as safetensors names them.
enum class Dtype { f64, f32, f16, bf16, f8_e4m3, f8_e5m2, i64, i32, i16, i8, u8, boolean };

size_t dtype_bytes(Dtype dtype);
std::string_view dtype_name(Dtype dtype);  // "F32", "BF16", ... as written in files
Dtype dtype_from_name(std::string_view name, std::string_view where);

/// A tensor inside a mapped file: row-major, valid while the TensorFile it came from lives.
struct StoredTensor {
  Dtype dtype = Dtype::f32;
  std::vector<int64_t> shape;
  std::span<const std::byte> bytes;
  const MappedFile* file = nullptr;  // where it lies, for messages and for `forget`
};

/// Named tensors of one checkpoint, mapped and not read: a safetensors file, a sharded set of them
/// (model.safetensors.index.json), or a pytorch_model.bin (sharded or not).
class TensorFile {
 public:
  /// Opens a file by its content, or a folder by the first of model.safetensors.index.json,
  /// model.safetensors, pytorch_model.bin.index.json, pytorch_model.bin that it holds.
  /// Throws Error that names the file and what is wrong with it.
  static TensorFile open(const std::filesystem::path& path);

  const std::map<std::string, StoredTensor, std::less<>>& tensors() const { return tensors_; }
  const Json& metadata() const {
    return metadata_;
  }  // the __metadata__ strings, or an empty object
  const std::filesystem::path& path() const { return path_; }

  /// The tensor of that name; throws Error that names the file and the nearest name there is.
  const StoredTensor& at(std::string_view name) const;

  int64_t total_bytes() const;  // of tensor data

 private:
  std::filesystem::path path_;
  std::vector<std::shared_ptr<const MappedFile>> files_;
  std::map<std::string, StoredTensor, std::less<>> tensors_;
  Json metadata_ = Json::object();

  friend struct TensorFileReader;  // the format readers that fill it
};

/// A tensor to be written: its bytes are read when the file is written.
struct TensorToWrite {
  std::string name;
  Dtype dtype;
  std::vector<int64_t> shape;
  std::span<const std::byte> bytes;
};

/// Writes a safetensors file beside `path` and renames it into place; tensors in the order given,
/// data aligned to 64 bytes from the start of the file. Throws Error when the bytes of a tensor are
/// not what its shape says.
void write_safetensors(const std::filesystem::path& path, const std::vector<TensorToWrite>& tensors,
                       const Json& metadata = Json::object());

}  // namespace cajal
