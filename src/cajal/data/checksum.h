#pragma once
#include <filesystem>
#include <string>
#include <string_view>

namespace cajal::data {

enum class Digest { md5, sha256 };

/// The digest of the file's bytes as lower-case hexadecimal; the file is read in pieces.
/// Throws Error when the file cannot be read, or when this build has no libcrypto.
std::string checksum(const std::filesystem::path& path, Digest digest);

/// The digest of these bytes.
std::string checksum_of(std::string_view bytes, Digest digest);

}  // namespace cajal::data
