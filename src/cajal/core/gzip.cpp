#include "cajal/core/gzip.h"

#include <lzma.h>
#include <zlib.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "cajal/core/error.h"
#include "cajal/core/files.h"

namespace cajal {
namespace {

constexpr size_t kPiece = size_t{1} << 18;
constexpr uint64_t kXzMemory = uint64_t{256} << 20;  // a dictionary of xz -9 takes 64 MiB

// Counts what goes to the sink, so that a small file cannot unpack into all of memory.
class Limited {
 public:
  Limited(std::string_view where, size_t limit, const ByteSink& sink)
      : where_(where), limit_(limit), sink_(sink) {}

  void operator()(std::span<const std::byte> piece) {
    require(piece.size() <= limit_ - total_, "{}: unpacks to more than {} bytes", where_, limit_);
    total_ += piece.size();
    if (!piece.empty()) sink_(piece);
  }

 private:
  std::string_view where_;
  size_t limit_, total_ = 0;
  const ByteSink& sink_;
};

void gunzip(std::span<const std::byte> packed, std::string_view where, Limited out) {
  z_stream stream{};
  require(inflateInit2(&stream, 16 + MAX_WBITS) == Z_OK, "{}: zlib cannot start", where);
  const std::unique_ptr<z_stream, decltype(&inflateEnd)> guard(&stream, inflateEnd);
  std::vector<std::byte> piece(kPiece);
  size_t given = 0;
  // A file may be several gzip members one behind the other.
  for (int status = Z_STREAM_END; status != Z_STREAM_END || given < packed.size();) {
    if (status == Z_STREAM_END) inflateReset(&stream);
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(packed.data() + given));
    stream.avail_in = static_cast<uInt>(std::min<size_t>(packed.size() - given, 1 << 30));
    stream.next_out = reinterpret_cast<Bytef*>(piece.data());
    stream.avail_out = static_cast<uInt>(piece.size());
    const auto offered = stream.avail_in;
    status = inflate(&stream, Z_NO_FLUSH);
    given += offered - stream.avail_in;
    require(status == Z_OK || status == Z_STREAM_END || status == Z_BUF_ERROR,
            "{}: damaged gzip data near byte {}: {}", where, given,
            stream.msg ? stream.msg : "unknown");
    const size_t got = piece.size() - stream.avail_out;
    require(status == Z_STREAM_END || got > 0 || given < packed.size(),
            "{}: cut off: the gzip data do not end by byte {}", where, given);
    out({piece.data(), got});
  }
}

std::string_view xz_reason(lzma_ret status) {
  switch (status) {
    case LZMA_BUF_ERROR:
      return "cut off";
    case LZMA_MEMLIMIT_ERROR:
      return "needs more than 256 MiB to unpack";
    case LZMA_FORMAT_ERROR:
      return "not xz";
    case LZMA_OPTIONS_ERROR:
      return "unknown options";
    default:
      return "damaged";
  }
}

void unxz(std::span<const std::byte> packed, std::string_view where, Limited out) {
  lzma_stream stream = LZMA_STREAM_INIT;
  require(lzma_stream_decoder(&stream, kXzMemory, LZMA_CONCATENATED) == LZMA_OK,
          "{}: liblzma cannot start", where);
  const std::unique_ptr<lzma_stream, decltype(&lzma_end)> guard(&stream, lzma_end);
  std::vector<std::byte> piece(kPiece);
  stream.next_in = reinterpret_cast<const uint8_t*>(packed.data());
  stream.avail_in = packed.size();
  for (lzma_ret status = LZMA_OK; status != LZMA_STREAM_END;) {
    stream.next_out = reinterpret_cast<uint8_t*>(piece.data());
    stream.avail_out = piece.size();
    status = lzma_code(&stream, LZMA_FINISH);
    require(status == LZMA_OK || status == LZMA_STREAM_END, "{}: xz data near byte {}: {}", where,
            packed.size() - stream.avail_in, xz_reason(status));
    out({piece.data(), piece.size() - stream.avail_out});
  }
}

}  // namespace

void decompress(std::span<const std::byte> packed, std::string_view where, size_t limit,
                const ByteSink& sink) {
  const std::string_view text(reinterpret_cast<const char*>(packed.data()), packed.size());
  Limited out(where, limit, sink);
  if (text.starts_with("\x1f\x8b")) return gunzip(packed, where, out);
  if (text.starts_with(std::string_view("\xfd"
                                        "7zXZ\0",
                                        6)))
    return unxz(packed, where, out);
  out(packed);
}

void read_compressed(const std::filesystem::path& path, size_t limit, const ByteSink& sink) {
  const MappedFile file(path);
  decompress(file.bytes(), path.string(), limit, sink);
}

std::string read_compressed(const std::filesystem::path& path, size_t limit) {
  std::string content;
  read_compressed(path, limit, [&](std::span<const std::byte> piece) {
    content.append(reinterpret_cast<const char*>(piece.data()), piece.size());
  });
  return content;
}

}  // namespace cajal
