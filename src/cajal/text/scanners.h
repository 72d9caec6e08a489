#pragma once
#include <cstddef>
#include <string_view>

namespace cajal::text {

/// Where the match that starts exactly at `at` ends; the patterns below match at every position of
/// a non-empty text, so their matches cover it. `text` must be valid UTF-8.
using Scanner = size_t (*)(std::string_view text, size_t at);

/// The pattern of GPT-2, used by every byte-level tokenizer that names no other.
inline constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

/// The hand-written scanner for a pattern known by its exact spelling (GPT-2, Llama 3, Qwen 2,
/// GPT-4o), or null.
Scanner scanner_for(std::string_view pattern);

}  // namespace cajal::text
