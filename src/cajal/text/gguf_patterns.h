#pragma once
#include <string_view>
#include <vector>

namespace cajal::text {

/// How llama.cpp cuts text for a byte-level BPE that tokenizer.ggml.pre names.
struct GgufPattern {
  std::vector<std::string_view> expressions;  // each cuts the pieces of the one before
  bool ignore_merges = false;                 // a word that is a token stays whole
  bool begins = false;                        // the begin token goes first unless the file says no
};

/// The rules of a name; a name that is not known here follows "default", as llama.cpp has it.
GgufPattern gguf_pattern(std::string_view name);

/// The name of a tokenizer.json's one pattern, or empty where ggml has none for it.
std::string_view gguf_pattern_name(std::string_view expression, bool ignore_merges);

}  // namespace cajal::text
