#pragma once
#include <filesystem>
#include <string>

#include "cajal/train/language_model.h"

namespace cajal::train {

/// Writes `folder`/README.md, the card of a trained language model: what it is, data, tokens seen,
/// results, the curve of log.jsonl, and how to make it again.
void write_card(const std::filesystem::path& folder, const LanguageModelOptions& options,
                const Json& report, const std::string& command);

}  // namespace cajal::train
