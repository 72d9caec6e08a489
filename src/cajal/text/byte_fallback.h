#pragma once
#include <array>
#include <cstdint>
#include <string_view>

#include "cajal/text/vocabulary.h"

namespace cajal::text {

/// The ids of <0x00> .. <0xFF>, -1 where the vocabulary has none.
std::array<int32_t, 256> byte_token_ids(const Vocabulary& vocabulary);

/// The byte that a token such as <0x0A> names, or -1.
int named_byte(std::string_view token);

}  // namespace cajal::text
