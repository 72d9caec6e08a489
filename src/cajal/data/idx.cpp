#include "cajal/data/idx.h"

#include <algorithm>
#include <cstring>

#include "cajal/core/error.h"
#include "cajal/core/gzip.h"

namespace cajal::data {
namespace {

Dtype type_of(uint8_t code, std::string_view where) {
  switch (code) {
    case 0x08:
      return Dtype::u8;
    case 0x09:
      return Dtype::i8;
    case 0x0B:
      return Dtype::i16;
    case 0x0C:
      return Dtype::i32;
    case 0x0D:
      return Dtype::f32;
    case 0x0E:
      return Dtype::f64;
  }
  fail("{}: IDX type {:#04x} is none of the six there are", where, code);
}

void swap_bytes(std::vector<std::byte>& bytes, size_t size) {
  if (size == 1) return;
  for (size_t i = 0; i < bytes.size(); i += size)
    std::reverse(bytes.begin() + static_cast<ptrdiff_t>(i),
                 bytes.begin() + static_cast<ptrdiff_t>(i + size));
}

}  // namespace

Array parse_idx(std::string_view bytes, std::string_view where) {
  const auto at = [&](size_t i) { return static_cast<uint8_t>(bytes[i]); };
  require(bytes.size() >= 4 && at(0) == 0 && at(1) == 0, "{}: not an IDX file", where);
  const size_t axes = at(3);
  require(axes >= 1 && axes <= 8, "{}: {} axes, 1 to 8 are read", where, axes);
  const size_t header = 4 + 4 * axes;
  require(bytes.size() >= header, "{}: ends inside its header", where);

  Array out;
  out.dtype = type_of(at(2), where);
  for (size_t i = 4; i < header; i += 4)
    out.shape.push_back(int64_t{at(i)} << 24 | at(i + 1) << 16 | at(i + 2) << 8 | at(i + 3));
  const auto data = bytes.substr(header);
  require_filled(out.shape, out.dtype, data.size(), where);
  out.bytes.resize(data.size());
  std::memcpy(out.bytes.data(), data.data(), data.size());
  swap_bytes(out.bytes, dtype_bytes(out.dtype));  // the file is big-endian
  return out;
}

Array read_idx(const std::filesystem::path& path) {
  return parse_idx(read_compressed(path, kMaxBytes), path.string());
}

}  // namespace cajal::data
