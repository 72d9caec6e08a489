#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace cajal::data {

/// The line that parts the documents of a corpus.
inline constexpr std::string_view kDocumentMark = "<|endoftext|>";

/// The text of a file (plain, .gz or .xz), or of a corpus of the catalogue by name and split:
/// "classics/valid", "wikitext2/test", "tinystories/train"; a name alone means its train split.
/// Throws Error when neither is there, when it is not valid UTF-8, or beyond 4 GiB.
std::string read_text(const std::string& path_or_name);

/// The documents of a corpus: what lies between lines that hold only the mark, without the line
/// ends beside it; empty ones are left out. The views point into `text`.
std::vector<std::string_view> documents(std::string_view text);

}  // namespace cajal::data
