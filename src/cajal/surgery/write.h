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

/// What a model takes on disk and what decoding a token reads of it, in bytes.
struct Sizes {
  int64_t stored = 0;
  int64_t ffn = 0;             // of them in FFN matrices
  int64_t read_per_token = 0;  // every matrix once, of tables only the rows of that token
};
Sizes sizes(lm::Transformer& model);

/// Brings the matrices of attention and the embedding into other formats, in memory.
void requantise(lm::Transformer& model, const WriteOptions& options);

/// Writes a model that was split or requantised as a checkpoint folder: tensors that were not
/// changed byte for byte, config.json with the key "cajal" where a tensor is not plain floats, and
/// every other file of the folder `source` that it came from (tokenizer, generation settings).
/// Written beside `output` and renamed there. Throws Error when `output` is taken.
void write(lm::Transformer& model, const std::filesystem::path& source,
           const std::filesystem::path& output);

}  // namespace cajal::surgery
