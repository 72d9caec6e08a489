#pragma once
#include <filesystem>

#include "cajal/engine/checkpoint.h"
#include "cajal/kernels/formats/format.h"

namespace cajal::lm {

/// Writes a checkpoint as one GGUF file: every matrix in `format`, vectors and learned positions in
/// F32, with its tokenizer; rows that do not fill the blocks of a K format go into blocks of 32
/// with more bits, as llama.cpp does. It reads back as the weights that the formats keep. Written
/// beside `output` and renamed there. Throws Error for families and settings that GGUF has no form
/// for and for split models.
void write_gguf_model(const Checkpoint& checkpoint, Format format,
                      const std::filesystem::path& output);

}  // namespace cajal::lm
