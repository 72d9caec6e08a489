#pragma once
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "cajal/core/tensors.h"
#include "cajal/engine/config.h"
#include "cajal/engine/packed_layout.h"
#include "cajal/kernels/memory.h"

namespace cajal::lm {

/// A model's files, opened and not read: what it is, and its tensors under the names that its
/// family's Hugging Face files give them, quantised ones as U8 [rows, row bytes].
struct Checkpoint {
  std::filesystem::path path;  // a folder, or a GGUF file
  Config config;
  PackedLayout layout;  // formats of the quantised tensors
  std::shared_ptr<const TensorFile> file;
  std::vector<WeightMemory> memory = {};           // of tensors that lie in no file
  std::shared_ptr<const TensorFile> routers = {};  // where layout.experts asks for some
};

/// Opens a folder with config.json and safetensors (or pytorch_model.bin), or a GGUF file.
/// Throws Error naming the file and what is missing or wrong.
Checkpoint open_checkpoint(const std::filesystem::path& path);

/// The router tensor of a layer of experts, "first" or "second", which must be [rows, width] of a
/// floating type. Throws Error naming the file.
const StoredTensor& router_tensor(const TensorFile& routers, int64_t layer, std::string_view part,
                                  int64_t rows, int64_t width);

/// Whether `path` is a GGUF file, by its first bytes.
bool is_gguf(const std::filesystem::path& path);

/// The same of a GGUF file: its settings as a config.json, its tensors renamed; the rows of
/// Llama's queries and keys, which llama.cpp's converter takes apart, are copied back into their
/// order. Throws Error for an architecture or a setting that is not known here.
Checkpoint open_gguf(const std::filesystem::path& path);

/// The folder or GGUF file that a user means by `name`: a path, or the name of an embedded model
/// (models/NAME beside the source, or installed). Throws Error naming the places looked at.
std::filesystem::path find_model(const std::string& name);

}  // namespace cajal::lm
