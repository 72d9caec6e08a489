#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace cajal::data {

/// A raster image: samples [height, width, channels] of 0 to `maximum`.
struct Image {
  int64_t width = 0, height = 0;
  int64_t channels = 0;  // 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha
  int maximum = 255;     // 65535 at most
  std::vector<uint16_t> samples;
};

/// Reads a PGM or PPM (P5, P6, 8 or 16 bits) or PNG file by its content, plain, .gz or .xz.
/// Throws Error that names the file and what is unsound or not read.
Image read_image(const std::filesystem::path& path);

/// Netpbm's P5 and P6, one image.
Image parse_pnm(std::string_view bytes, std::string_view where);

/// PNG with samples as stored: no gamma, palettes and bits widened to 8; 16-bit samples kept.
/// Throws Error when this build has no libpng.
Image parse_png(std::string_view bytes, std::string_view where);

/// Writes PGM or PPM, by channels (1 or 3); throws Error for others.
void write_pnm(const std::filesystem::path& path, const Image& image);

/// An 8-bit PNG, and one as a file; throws Error for a maximum other than 255.
std::string encode_png(const Image& image, std::string_view where);
void write_png(const std::filesystem::path& path, const Image& image);

}  // namespace cajal::data
