#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "cajal/core/files.h"

/// GGUF: one file that holds a model's settings, its tokenizer and its tensors, most of them in
/// ggml's block formats. Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
namespace cajal {

/// How a tensor of a GGUF file is stored: rows of blocks of `values` values in `bytes` bytes.
struct GgufType {
  uint32_t id;
  std::string_view name;  // as ggml writes it: "F32", "Q4_K"
  int64_t values, bytes;
};

/// The types that are read here; Error that starts with `where` for any other, by its name where
/// ggml has one.
const GgufType& gguf_type(uint32_t id, std::string_view where);
const GgufType& gguf_type(std::string_view name, std::string_view where);

/// Bytes of a tensor; throws Error that starts with `where` when its rows cut a block or the
/// product overflows.
int64_t gguf_bytes(const GgufType& type, std::span<const int64_t> shape, std::string_view where);

/// A tensor inside a mapped file. `shape` is in the usual order, the axis along which values lie
/// one behind the other last (GGUF itself writes it first).
struct GgufTensor {
  const GgufType* type = nullptr;
  std::vector<int64_t> shape;  // 1 to 4 sizes above 0
  std::span<const std::byte> bytes;
};

/// A value of the settings, left where it lies in the file.
struct GgufValue {
  enum class Kind : uint32_t {
    u8,
    i8,
    u16,
    i16,
    u32,
    i32,
    f32,
    boolean,
    string,
    array,
    u64,
    i64,
    f64
  };
  Kind kind = Kind::u32;
  Kind element = Kind::u32;                      // of an array
  uint64_t count = 1;                            // elements of an array
  std::span<const std::byte> bytes;              // of the value, or of all elements
  std::shared_ptr<const MappedFile> owner = {};  // where a copy must outlive the file's reader
};

/// A GGUF file of version 2 or 3, mapped and not read: settings and tensors are views of it.
class Gguf {
 public:
  /// Throws Error naming the file and what is wrong: sizes and counts past its end, tensors that
  /// overlap or begin at no multiple of the alignment, names given twice, unknown types.
  static Gguf open(const std::filesystem::path& path);
  /// The same of bytes that outlive it; `where` names them in errors.
  static Gguf parse(std::span<const std::byte> bytes, std::string where);

  const std::string& where() const { return where_; }
  const std::shared_ptr<const MappedFile>& file() const { return file_; }  // null when parsed
  const std::map<std::string, GgufValue, std::less<>>& settings() const { return settings_; }
  /// In the order in which the file lists them.
  const std::vector<std::pair<std::string, GgufTensor>>& tensors() const { return tensors_; }
  const GgufTensor* find_tensor(std::string_view name) const;

  bool has(std::string_view key) const { return settings_.find(key) != settings_.end(); }
  /// One setting in a type; nothing when it is not there, Error naming the key when it is of
  /// another kind, and for integers out of range and numbers that are not finite.
  std::optional<int64_t> integer(std::string_view key) const;
  std::optional<double> number(std::string_view key) const;  // integers too
  std::optional<bool> flag(std::string_view key) const;
  std::optional<std::string_view> text(std::string_view key) const;
  /// Arrays; empty when not there.
  std::vector<std::string_view> texts(std::string_view key) const;
  std::vector<int64_t> integers(std::string_view key) const;
  std::vector<double> numbers(std::string_view key) const;

  /// Whether the setting is an array.
  bool is_array(std::string_view key) const;

 private:
  void read();

  std::string where_;
  std::shared_ptr<const MappedFile> file_;
  std::span<const std::byte> bytes_;
  std::map<std::string, GgufValue, std::less<>> settings_;
  std::vector<std::pair<std::string, GgufTensor>> tensors_;
  std::map<std::string, size_t, std::less<>> by_name_;
};

/// A setting to be written.
using GgufSetting =
    std::variant<uint32_t, int32_t, uint64_t, float, bool, std::string, std::vector<int32_t>,
                 std::vector<float>, std::vector<std::string>, GgufValue>;

/// A tensor to be written; `bytes` is asked for once, when its turn comes.
struct GgufTensorToWrite {
  std::string name;
  const GgufType* type = nullptr;
  std::vector<int64_t> shape;
  std::function<std::vector<std::byte>()> bytes;
};

/// Writes a GGUF file of version 3 beside `path` and renames it into place. Throws Error when a
/// name repeats, a shape cuts a block, or the bytes of a tensor are not what its shape says.
void write_gguf(const std::filesystem::path& path,
                const std::vector<std::pair<std::string, GgufSetting>>& settings,
                const std::vector<GgufTensorToWrite>& tensors);

}  // namespace cajal
