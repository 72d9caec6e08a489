#pragma once
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "cajal/models/lm/checkpoint.h"
#include "cajal/text/tokenizer.h"

namespace cajal {

/// A model as the verbs take it: a checkpoint folder, a GGUF file or the name of an embedded one,
/// with its tokenizer where it has one.
struct LanguageModel {
  std::filesystem::path folder;  // or GGUF file
  lm::Transformer model{nullptr};
  std::optional<text::Tokenizer> tokenizer;

  /// The tokenizer; throws Error saying what the model lacks.
  const text::Tokenizer& need_tokenizer() const;
  /// The text of ids, or "" without a tokenizer.
  std::string text_of(std::span<const int32_t> ids) const;
};

/// Opens `name` and sets libtorch to `threads` (0: all that this process may use).
LanguageModel open_language_model(const std::string& name, int threads = 0);

/// The tokenizer of a checkpoint folder or GGUF file, where it has one.
std::optional<text::Tokenizer> open_tokenizer(const std::filesystem::path& path);

/// The tokenizer; throws Error saying what `path` lacks.
const text::Tokenizer& need_tokenizer(const std::optional<text::Tokenizer>& tokenizer,
                                      const std::string& path);

/// "1,2,3" -> {1, 2, 3}; `option` names it in errors.
std::vector<int32_t> parse_ids(const std::string& list, std::string_view option);

/// 1234567 -> "1.23 MB".
std::string readable_bytes(int64_t bytes);

}  // namespace cajal
