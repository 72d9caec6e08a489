#pragma once
#include <cstdint>
#include <filesystem>

namespace cajal::data {

/// How much an archive may grow: it may hold at most `bytes + ratio * (its own size)` bytes in
/// at most `files` files and folders.
struct UnpackLimits {
  int64_t bytes = int64_t{64} << 20;
  int64_t ratio = 64;
  int64_t files = 200'000;
};

/// Unpacks a .zip, .tar, .tar.gz or .tar.xz into the new folder `folder`, whole or not at all.
/// Only plain files and folders are taken: throws Error for links, devices, absolute names, names
/// with "..", a name that comes twice, damaged data, growth beyond the limits, or when this build
/// has no libarchive.
void extract(const std::filesystem::path& archive, const std::filesystem::path& folder,
             const UnpackLimits& limits = {});

}  // namespace cajal::data
