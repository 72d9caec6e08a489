#include "cajal/core/error.h"
#include "cajal/core/files.h"
#include "cajal/data/image.h"

#ifdef CAJAL_PNG
#include <png.h>

#include <cstring>
#include <memory>
#endif

namespace cajal::data {

#ifdef CAJAL_PNG

namespace {

constexpr size_t kMaxSamples = size_t{1} << 30;
constexpr png_uint_32 kMaxSide = 1 << 16;

// libpng reports errors by a longjmp, which must pass over nothing that has a destructor: the
// functions that call it keep their objects here, outside of its reach.
struct Session {
  std::string message;
  std::string_view input;
  size_t at = 0;
  std::string output;
  Image image;
  std::vector<png_byte> rows;
  std::vector<png_bytep> row;
};

void on_error(png_structp png, png_const_charp text) {
  static_cast<Session*>(png_get_error_ptr(png))->message = text;
  png_longjmp(png, 1);
}

void on_warning(png_structp, png_const_charp) {}

void on_read(png_structp png, png_bytep out, size_t count) {
  auto& session = *static_cast<Session*>(png_get_io_ptr(png));
  if (count > session.input.size() - session.at) png_error(png, "cut off");
  std::memcpy(out, session.input.data() + session.at, count);
  session.at += count;
}

void on_write(png_structp png, png_bytep bytes, size_t count) {
  static_cast<Session*>(png_get_io_ptr(png))
      ->output.append(reinterpret_cast<const char*>(bytes), count);
}

void set_rows(Session& session, size_t row_bytes, size_t height) {
  session.rows.resize(row_bytes * height);
  session.row.resize(height);
  for (size_t y = 0; y < height; ++y) session.row[y] = session.rows.data() + y * row_bytes;
}

// Fills session.image's sizes and session.rows; false with a message when libpng refuses.
bool read_rows(png_structp png, png_infop info, Session& session) {
  if (setjmp(png_jmpbuf(png))) return false;
  png_set_read_fn(png, &session, on_read);
  png_set_user_limits(png, kMaxSide, kMaxSide);
  png_set_chunk_cache_max(png, 64);
  png_set_chunk_malloc_max(png, size_t{8} << 20);
  png_read_info(png, info);
  png_set_palette_to_rgb(png);
  png_set_expand_gray_1_2_4_to_8(png);
  if (png_get_valid(png, info, PNG_INFO_tRNS)) png_set_tRNS_to_alpha(png);
  png_set_interlace_handling(png);
  png_read_update_info(png, info);
  auto& image = session.image;
  image.width = png_get_image_width(png, info);
  image.height = png_get_image_height(png, info);
  image.channels = png_get_channels(png, info);
  image.maximum = png_get_bit_depth(png, info) == 16 ? 65535 : 255;
  if (static_cast<size_t>(image.width * image.height * image.channels) > kMaxSamples)
    png_error(png, "too large");
  set_rows(session, png_get_rowbytes(png, info), static_cast<size_t>(image.height));
  png_read_image(png, session.row.data());
  png_read_end(png, nullptr);
  return true;
}

bool write_rows(png_structp png, png_infop info, Session& session) {
  if (setjmp(png_jmpbuf(png))) return false;
  constexpr int kColours[] = {PNG_COLOR_TYPE_GRAY, PNG_COLOR_TYPE_GRAY_ALPHA, PNG_COLOR_TYPE_RGB,
                              PNG_COLOR_TYPE_RGB_ALPHA};
  png_set_write_fn(png, &session, on_write, nullptr);
  const auto& image = session.image;
  png_set_IHDR(png, info, static_cast<png_uint_32>(image.width),
               static_cast<png_uint_32>(image.height), 8, kColours[image.channels - 1],
               PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
  png_write_info(png, info);
  png_write_image(png, session.row.data());
  png_write_end(png, nullptr);
  return true;
}

}  // namespace

Image parse_png(std::string_view bytes, std::string_view where) {
  Session session;
  session.input = bytes;
  auto* png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &session, on_error, on_warning);
  require(png, "{}: libpng could not start", where);
  auto* info = png_create_info_struct(png);
  const bool good = info && read_rows(png, info, session);
  png_destroy_read_struct(&png, &info, nullptr);
  require(good, "{}: not a sound PNG file: {}", where, session.message);
  require(session.at == bytes.size(), "{}: {} bytes behind its end", where,
          bytes.size() - session.at);

  auto& image = session.image;
  const bool wide = image.maximum > 255;
  image.samples.resize(session.rows.size() / (wide ? 2 : 1));
  for (size_t i = 0; i < image.samples.size(); ++i)
    image.samples[i] =
        wide ? static_cast<uint16_t>(session.rows[2 * i] << 8 | session.rows[2 * i + 1])
             : session.rows[i];
  return std::move(image);
}

std::string encode_png(const Image& image, std::string_view where) {
  require(
      image.maximum == 255 && image.channels >= 1 && image.channels <= 4 && image.width > 0 &&
          image.height > 0 && image.width <= kMaxSide && image.height <= kMaxSide &&
          static_cast<int64_t>(image.samples.size()) == image.width * image.height * image.channels,
      "{}: not an 8-bit image of 1 to 4 channels whose samples fill it", where);
  Session session;
  session.image = image;
  set_rows(session, static_cast<size_t>(image.width * image.channels),
           static_cast<size_t>(image.height));
  for (size_t i = 0; i < session.rows.size(); ++i) {
    require(image.samples[i] <= 255, "{}: a sample is {}, beyond 255", where, image.samples[i]);
    session.rows[i] = static_cast<png_byte>(image.samples[i]);
  }
  auto* png = png_create_write_struct(PNG_LIBPNG_VER_STRING, &session, on_error, on_warning);
  require(png, "{}: libpng could not start", where);
  auto* info = png_create_info_struct(png);
  const bool good = info && write_rows(png, info, session);
  png_destroy_write_struct(&png, &info);
  require(good, "{}: cannot be made a PNG: {}", where, session.message);
  return std::move(session.output);
}

#else

Image parse_png(std::string_view, std::string_view where) {
  fail("{}: this build has no libpng, so it cannot read PNG; install it and build again", where);
}

std::string encode_png(const Image&, std::string_view where) {
  fail("{}: this build has no libpng, so it cannot write PNG; install it and build again", where);
}

#endif

void write_png(const std::filesystem::path& path, const Image& image) {
  write_file(path, encode_png(image, path.string()));
}

}  // namespace cajal::data
