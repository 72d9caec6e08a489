#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "cajal/core/gguf.h"
#include "cajal/text/tokenizer_file.h"

namespace cajal::text {

/// The tokenizer of a GGUF file's settings (tokenizer.ggml.*) with the ids that llama.cpp gives:
/// byte-level BPE ("gpt2") with the pattern that tokenizer.ggml.pre names, or merging by score
/// ("llama"). A tokenizer.json held as tokenizer.huggingface.json goes first.
/// Throws Error naming the setting that is missing, wrong or not known.
TokenizerFile tokenizer_of(const Gguf& gguf);

/// The settings of a tokenizer, as they lie in the file, for a file with no tensors beside a model.
std::vector<std::pair<std::string, GgufSetting>> tokenizer_settings(const Gguf& gguf);

/// The settings that hold the tokenizer of a folder or file that read_tokenizer takes: its
/// tokenizer.json, and for byte-level BPE the same in ggml's form.
std::vector<std::pair<std::string, GgufSetting>> settings_of_tokenizer(
    const std::filesystem::path& path);

/// The ids that the file gives to its special tokens.
SpecialIds gguf_special_ids(const Gguf& gguf);

}  // namespace cajal::text
