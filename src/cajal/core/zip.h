#pragma once
#include <cstddef>
#include <map>
#include <span>
#include <string_view>

namespace cajal {

/// The entries of a ZIP archive (ZIP64 too) held in `file`, all of which must be stored without
/// compression, as PyTorch writes them; views into `file`. `where` names it in errors. Throws Error
/// when an entry is compressed, encrypted, out of bounds, or overlaps another.
/// Source: PKWARE APPNOTE.TXT 6.3.10.
std::map<std::string_view, std::span<const std::byte>> read_stored_zip(
    std::span<const std::byte> file, std::string_view where);

}  // namespace cajal
