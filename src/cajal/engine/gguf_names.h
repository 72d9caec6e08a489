#pragma once
#include <string>
#include <string_view>

#include "cajal/core/gguf.h"
#include "cajal/engine/names.h"
#include "cajal/kernels/formats/format.h"

namespace cajal::lm {

/// An architecture of GGUF files and the family that it is here.
struct GgufFamily {
  std::string_view architecture;
  Family family;
};

/// Throws Error that starts with `where` for an architecture that is not known here.
const GgufFamily& gguf_family(std::string_view architecture, const std::string& where);

/// The architecture that a family is written as; throws Error for one that GGUF has none for.
std::string_view gguf_architecture(Family family, const std::string& where);

/// Our name of a GGUF file's tensor ("blk.3.attn_q.weight" -> "blocks.3.attention.query.weight"),
/// empty where the family has no such tensor; and the way back.
std::string gguf_our_name(Family family, std::string_view name);
std::string gguf_name(Family family, std::string_view ours);

/// How the tensors of an imported file are named: by the family's Hugging Face names, but for
/// GPT-2 those of the map whose matrices are [outputs, inputs].
Naming gguf_naming(Family family);

/// Whether the rows of queries and keys stand in the order of ggml's first rotation, which turns
/// neighbours (architecture "llama").
bool gguf_takes_pairs_apart(const Gguf& gguf);

/// The block format of a type, and the type of a format.
Format gguf_format(const GgufType& type, const std::string& where);
const GgufType& gguf_type_of(Format format);

}  // namespace cajal::lm
