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

/// Bytes that a row-major tensor takes; throws Error that begins with `where` when a size is
/// negative or the product overflows.
size_t tensor_bytes(Dtype dtype, std::span<const int64_t> shape, std::string_view where);

/// A tensor inside a mapped file: row-major, valid while the TensorFile it came from lives. Its
/// bytes lie where the file put them, which need not be a multiple of the element's size: ask
/// `is_aligned` before reading them through a typed pointer, else copy elements out with memcpy.
struct StoredTensor {
  Dtype dtype = Dtype::f32;
  std::vector<int64_t> shape;
  std::span<const std::byte> bytes;
  const MappedFile* file = nullptr;  // where it lies, for messages and for `forget`
};

/// Whether the bytes of `tensor` begin at a multiple of its element's size.
bool is_aligned(const StoredTensor& tensor);

/// The tensors of one file as its reader found them.
struct StoredTensors {
  std::map<std::string, StoredTensor, std::less<>> tensors;
  Json metadata = Json::object();                                     // string to string
  std::vector<std::shared_ptr<const std::vector<std::byte>>> copies;  // of transposed tensors
};

/// Named tensors of one checkpoint, mapped and not read: a safetensors file, a sharded set of them
/// (model.safetensors.index.json), or a pytorch_model.bin (sharded or not). Tensors that a .bin
/// stores transposed or with gaps are the exception: they are copied row-major when it is opened.
class TensorFile {
 public:
  /// Opens a file by its content, or a folder by the first of model.safetensors.index.json,
  /// model.safetensors, pytorch_model.bin.index.json, pytorch_model.bin that it holds.
  /// Throws Error that names the file and what is wrong with it.
  static TensorFile open(const std::filesystem::path& path);

  /// Tensors that another reader found in `file` or made from it.
  static TensorFile adopt(std::shared_ptr<const MappedFile> file, StoredTensors found);

  const std::map<std::string, StoredTensor, std::less<>>& tensors() const { return found_.tensors; }
  /// The __metadata__ strings of a safetensors file; for a .bin, "ignored_entries" names what it
  /// holds beside tensors; else an empty object.
  const Json& metadata() const { return found_.metadata; }
  const std::filesystem::path& path() const { return path_; }

  /// The tensor of that name; throws Error that names the file and the nearest name there is.
  const StoredTensor& at(std::string_view name) const;

  int64_t total_bytes() const;  // of tensor data

 private:
  std::filesystem::path path_;
  std::vector<std::shared_ptr<const MappedFile>> files_;
  StoredTensors found_;
};

/// A tensor to be written: its bytes are read when the file is written.
struct TensorToWrite {
  std::string name;
  Dtype dtype;
  std::vector<int64_t> shape;
  std::span<const std::byte> bytes;
};

/// Writes a safetensors file beside `path` and renames it into place. The data begins at a multiple
/// of 64 bytes and has no gaps; tensors of wider elements come first, else in the order given, so
/// that each begins at a multiple of its element's size. Throws Error when the bytes of a tensor
/// are not what its shape says, a name repeats, or a metadata value is not a string.
void write_safetensors(const std::filesystem::path& path, const std::vector<TensorToWrite>& tensors,
                       const Json& metadata = Json::object());

}  // namespace cajal
