#pragma once
#include <filesystem>
#include <optional>

#include "cajal/models/lm/transformer.h"
#include "cajal/surgery/plan.h"

namespace cajal::surgery {

struct WriteOptions {
  std::optional<Format> attention;  // of the matrices of attention
  std::optional<Format> embedding;  // of the token embedding and the vocabulary
};

/// Brings the matrices of attention and the embedding into other formats, in memory.
void requantise(lm::Transformer& model, const WriteOptions& options);

/// Writes a model that was split or requantised as a checkpoint folder: tensors that were not
/// changed byte for byte, config.json with the key "cajal" where a tensor is not plain floats, and
/// every other file of the folder `source` that it came from (tokenizer, generation settings), or
/// the tokenizer of the GGUF file `source` as tokenizer.gguf.
/// Written beside `output` and renamed there. Throws Error when `output` is taken.
void write(lm::Transformer& model, const std::filesystem::path& source,
           const std::filesystem::path& output);

}  // namespace cajal::surgery
