#pragma once
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "cajal/core/tensors.h"
#include "cajal/core/torch.h"

namespace cajal {

/// Tensors by name, in alphabetical order.
using NamedTensors = std::map<std::string, torch::Tensor, std::less<>>;

/// The element type in libtorch. 8-bit floats become f32 (libtorch 1.13 has none).
torch::Dtype to_torch(Dtype dtype);

/// The element type that a tensor is stored with; throws Error naming the tensor for types that
/// safetensors lacks (complex, quantised).
Dtype stored_dtype(torch::Dtype dtype, std::string_view name);

/// A stored tensor on the CPU. With `owner`, whatever keeps the mapped bytes alive (usually the
/// TensorFile), the result is a view of the mapped file that holds on to it: read-only memory,
/// never to be written in place. Without owner, or for unaligned bytes and 8-bit floats, a copy.
torch::Tensor to_torch(const StoredTensor& stored, std::shared_ptr<const void> owner = nullptr);

/// Every tensor of a safetensors file (or whatever TensorFile::open takes), copied to the CPU.
NamedTensors load_tensors(const std::filesystem::path& path);

/// Writes a safetensors file beside `path` and renames it into place, tensors in the order given.
/// Throws Error for a type that safetensors lacks and for a name given twice.
void save_tensors(const std::filesystem::path& path,
                  const std::vector<std::pair<std::string, torch::Tensor>>& tensors,
                  const Json& metadata = Json::object());
void save_tensors(const std::filesystem::path& path, const NamedTensors& tensors,
                  const Json& metadata = Json::object());

}  // namespace cajal
