#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "cajal/core/json.h"

namespace cajal::text {

/// The special tokens that stand around the text: their ids in order, with kText where it goes.
using Frame = std::vector<int32_t>;
inline constexpr int32_t kText = -1;

/// Reads the "post_processor" of a tokenizer file (null: the text alone). `where` names it in
/// errors.
Frame parse_post_processor(const Json& json, const std::string& where);

}  // namespace cajal::text
