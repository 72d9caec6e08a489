#pragma once
#include <cstddef>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>

namespace cajal {

/// Takes unpacked bytes piece by piece.
using ByteSink = std::function<void(std::span<const std::byte>)>;

/// Hands the unpacked content of `packed` to `sink`: gzip and xz are known by their first bytes,
/// anything else is passed on as it is. `where` names the source in errors. Throws Error when it is
/// damaged or cut off, or after `limit` unpacked bytes.
void decompress(std::span<const std::byte> packed, std::string_view where, size_t limit,
                const ByteSink& sink);

/// The unpacked content of a .gz, .xz or plain file; throws Error as `decompress` does.
std::string read_compressed(const std::filesystem::path& path, size_t limit);
void read_compressed(const std::filesystem::path& path, size_t limit, const ByteSink& sink);

}  // namespace cajal
