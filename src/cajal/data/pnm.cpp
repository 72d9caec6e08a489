#include <charconv>
#include <string>

#include "cajal/core/error.h"
#include "cajal/core/files.h"
#include "cajal/core/gzip.h"
#include "cajal/data/array.h"
#include "cajal/data/image.h"

namespace cajal::data {
namespace {

constexpr std::string_view kSpace = " \t\n\v\f\r";

// One number of the header; comments run from # to the end of the line.
int64_t next_number(std::string_view& text, std::string_view where, int64_t at_most) {
  for (;;) {
    const auto first = text.find_first_not_of(kSpace);
    text.remove_prefix(first == text.npos ? text.size() : first);
    if (!text.starts_with('#')) break;
    const auto end = text.find_first_of("\n\r");
    text.remove_prefix(end == text.npos ? text.size() : end);
  }
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  require(error == std::errc() && value >= 1 && value <= at_most,
          "{}: a number from 1 to {} expected in its header", where, at_most);
  text.remove_prefix(static_cast<size_t>(end - text.data()));
  return value;
}

}  // namespace

Image parse_pnm(std::string_view bytes, std::string_view where) {
  require(bytes.starts_with("P5") || bytes.starts_with("P6"), "{}: not a binary PGM or PPM file",
          where);
  Image out;
  out.channels = bytes[1] == '5' ? 1 : 3;
  auto text = bytes.substr(2);
  require(!text.empty() && (kSpace.find(text[0]) != kSpace.npos || text[0] == '#'),
          "{}: not a binary PGM or PPM file", where);
  constexpr int64_t kMaxSide = 1 << 20;
  out.width = next_number(text, where, kMaxSide);
  out.height = next_number(text, where, kMaxSide);
  out.maximum = static_cast<int>(next_number(text, where, 65535));
  require(!text.empty() && kSpace.find(text[0]) != kSpace.npos, "{}: ends inside its header",
          where);
  text.remove_prefix(1);  // exactly one: the next byte is a sample

  const bool wide = out.maximum > 255;
  require_filled({out.height, out.width, out.channels}, wide ? Dtype::i16 : Dtype::u8, text.size(),
                 where);
  out.samples.resize(text.size() / (wide ? 2 : 1));
  for (size_t i = 0; i < out.samples.size(); ++i) {
    const auto at = [&](size_t place) { return static_cast<uint8_t>(text[place]); };
    out.samples[i] = wide ? static_cast<uint16_t>(at(2 * i) << 8 | at(2 * i + 1)) : at(i);
    require(out.samples[i] <= out.maximum, "{}: sample {} is {}, beyond the maximum {}", where, i,
            out.samples[i], out.maximum);
  }
  return out;
}

void write_pnm(const std::filesystem::path& path, const Image& image) {
  require(image.channels == 1 || image.channels == 3, "{}: PNM has 1 or 3 channels, not {}",
          path.string(), image.channels);
  require(
      image.maximum >= 1 && image.maximum <= 65535 &&
          static_cast<int64_t>(image.samples.size()) == image.width * image.height * image.channels,
      "{}: the image's samples are not {} x {} x {}", path.string(), image.height, image.width,
      image.channels);
  auto out = fmt::format("P{}\n{} {}\n{}\n", image.channels == 1 ? 5 : 6, image.width, image.height,
                         image.maximum);
  for (const auto sample : image.samples) {
    require(sample <= image.maximum, "{}: a sample is {}, beyond the maximum {}", path.string(),
            sample, image.maximum);
    if (image.maximum > 255) out += static_cast<char>(sample >> 8);
    out += static_cast<char>(sample & 0xff);
  }
  write_file(path, out);
}

Image read_image(const std::filesystem::path& path) {
  const auto bytes = read_compressed(path, kMaxBytes);
  return bytes.starts_with("\x89PNG") ? parse_png(bytes, path.string())
                                      : parse_pnm(bytes, path.string());
}

}  // namespace cajal::data
