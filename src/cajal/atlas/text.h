#pragma once
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "cajal/atlas/census.h"
#include "cajal/text/tokenizer.h"

namespace cajal::atlas {

/// A text as a model reads it, without special tokens.
struct Reading {
  std::string name;  // of the file
  std::vector<int32_t> ids;
  std::optional<text::Tokenizer> tokenizer;  // none where a token is a byte
};

/// Reads `file` (plain, .gz or .xz, or a corpus of the catalogue: "classics/valid") with the
/// tokenizer in the model's `folder`; a model of 256 tokens without one reads bytes. `tokens` > 0:
/// no more than that many. Throws Error when the folder has no tokenizer, and when the text has
/// fewer than 2 tokens.
Reading read_text(const std::filesystem::path& folder, int64_t vocabulary,
                  const std::filesystem::path& file, int64_t tokens = 0);

/// The text of ids [begin, end), cut to what there is.
std::string words(const Reading& reading, int64_t begin, int64_t end);

/// Writes the words around every peak's token into the census.
void add_contexts(Census& census, const Reading& reading);

}  // namespace cajal::atlas
