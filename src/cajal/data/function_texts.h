#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace cajal::data {

/// Kinds of text that a small byte-level model can learn side by side, so that what a part of it is
/// for is known. Source: dossier bricks ("Data").
inline constexpr const char* kGeneratedFunctions[] = {
    "arith",      // "37+58=95"
    "brackets",   // nested brackets of three kinds, closed in order
    "recall",     // "k7:q k2:x ... k7?q"
    "translate",  // sentences of toy_translate beside their translations
    "code"        // small assignments and loops by template
};

/// `bytes` of text of that kind (ASCII, cut at the end); `lines` of other seeds do not repeat those
/// of this one except by chance. Throws Error for a name that is none.
std::string function_text(const std::string& function, int64_t bytes, uint64_t seed);

}  // namespace cajal::data
