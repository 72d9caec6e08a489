#include "cajal/data/npy.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <optional>
#include <string>

#include "cajal/core/error.h"
#include "cajal/core/gzip.h"

namespace cajal::data {
namespace {

constexpr std::string_view kMagic = "\x93NUMPY";
constexpr size_t kMaxHeader = 1 << 16;
constexpr size_t kMaxAxes = 32;

constexpr std::pair<std::string_view, Dtype> kTypes[] = {
    {"<f4", Dtype::f32}, {"<f8", Dtype::f64}, {"<i2", Dtype::i16}, {"<i4", Dtype::i32},
    {"<i8", Dtype::i64}, {"|i1", Dtype::i8},  {"|u1", Dtype::u8},  {"|b1", Dtype::boolean}};

/// The header, a Python dict literal: {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }
class HeaderParser {
 public:
  HeaderParser(std::string_view text, std::string_view where) : text_(text), where_(where) {}

  struct Header {
    std::optional<std::string_view> descr;
    std::optional<bool> fortran_order;
    std::optional<std::vector<int64_t>> shape;
  };

  Header run() {
    Header out;
    expect("{");
    while (!accept("}")) {
      const auto key = quoted();
      expect(":");
      if (key == "descr" && !out.descr) {
        out.descr = quoted();
      } else if (key == "fortran_order" && !out.fortran_order) {
        out.fortran_order = boolean();
      } else if (key == "shape" && !out.shape) {
        out.shape = tuple();
      } else {
        fail("{}: unexpected key '{}' in the NPY header", where_, key);
      }
      if (!accept(",")) {
        expect("}");
        break;
      }
    }
    skip_space();
    require(text_.empty(), "{}: text behind the NPY header", where_);
    require(out.descr && out.fortran_order && out.shape,
            "{}: the NPY header lacks descr, fortran_order or shape", where_);
    return out;
  }

 private:
  void skip_space() {
    const auto first = text_.find_first_not_of(" \n");
    text_.remove_prefix(first == text_.npos ? text_.size() : first);
  }

  bool accept(std::string_view token) {
    skip_space();
    if (!text_.starts_with(token)) return false;
    text_.remove_prefix(token.size());
    return true;
  }

  void expect(std::string_view token) {
    require(accept(token), "{}: '{}' expected in the NPY header", where_, token);
  }

  std::string_view quoted() {
    const bool single = accept("'");
    require(single || accept("\""), "{}: a quoted name expected in the NPY header", where_);
    const auto end = text_.find(single ? '\'' : '"');
    require(end != text_.npos, "{}: a name in the NPY header does not end", where_);
    const auto out = text_.substr(0, end);
    text_.remove_prefix(end + 1);
    return out;
  }

  bool boolean() {
    if (accept("True")) return true;
    expect("False");
    return false;
  }

  std::vector<int64_t> tuple() {
    std::vector<int64_t> out;
    expect("(");
    while (!accept(")")) {
      skip_space();
      int64_t size = 0;
      const auto [end, error] = std::from_chars(text_.data(), text_.data() + text_.size(), size);
      require(error == std::errc() && size >= 0, "{}: a size expected in the NPY shape", where_);
      text_.remove_prefix(static_cast<size_t>(end - text_.data()));
      require(out.size() < kMaxAxes, "{}: more than {} axes", where_, kMaxAxes);
      out.push_back(size);
      if (!accept(",")) {
        expect(")");
        break;
      }
    }
    return out;
  }

  std::string_view text_, where_;
};

Dtype type_of(std::string_view descr, std::string_view where) {
  std::string known;
  for (const auto& [name, dtype] : kTypes) {
    if (name == descr) return dtype;
    known += (known.empty() ? "" : ", ") + std::string(name);
  }
  fail("{}: NumPy type '{}' is not one of {}", where, descr, known);
}

// Reorders column-major data of that shape to row-major.
void to_row_major(const char* data, Array& out) {
  const size_t item = dtype_bytes(out.dtype), axes = out.shape.size();
  std::array<size_t, kMaxAxes> stride{};  // of the source, in bytes
  size_t step = item;
  for (size_t axis = 0; axis < axes; ++axis) {
    stride[axis] = step;
    step *= static_cast<size_t>(out.shape[axis]);
  }
  std::array<int64_t, kMaxAxes> index{};
  size_t from = 0;
  for (size_t to = 0; to < out.bytes.size(); to += item) {
    std::memcpy(out.bytes.data() + to, data + from, item);
    for (size_t axis = axes; axis-- > 0;) {
      from += stride[axis];
      if (++index[axis] < out.shape[axis]) break;
      from -= stride[axis] * static_cast<size_t>(out.shape[axis]);
      index[axis] = 0;
    }
  }
}

}  // namespace

Array parse_npy(std::string_view bytes, std::string_view where) {
  require(bytes.starts_with(kMagic) && bytes.size() >= 10, "{}: not an NPY file", where);
  const auto at = [&](size_t i) { return static_cast<size_t>(static_cast<uint8_t>(bytes[i])); };
  const auto version = at(6);
  require(version >= 1 && version <= 3, "{}: NPY version {}, 1 to 3 are read", where, version);
  const size_t begin = version == 1 ? 10 : 12;
  require(bytes.size() >= begin, "{}: ends inside its header", where);
  size_t length = at(8) | at(9) << 8;
  if (version > 1) length |= at(10) << 16 | at(11) << 24;
  require(length <= kMaxHeader && length <= bytes.size() - begin, "{}: ends inside its header",
          where);
  const auto header = HeaderParser(bytes.substr(begin, length), where).run();

  Array out;
  out.dtype = type_of(*header.descr, where);
  out.shape = *header.shape;
  const auto data = bytes.substr(begin + length);
  require_filled(out.shape, out.dtype, data.size(), where);
  out.bytes.resize(data.size());
  if (*header.fortran_order && !data.empty()) {
    to_row_major(data.data(), out);
  } else {
    std::memcpy(out.bytes.data(), data.data(), data.size());
  }
  return out;
}

Array read_npy(const std::filesystem::path& path) {
  return parse_npy(read_compressed(path, kMaxBytes), path.string());
}

void write_npy(const std::filesystem::path& path, const Array& array) {
  const auto* type = std::find_if(std::begin(kTypes), std::end(kTypes),
                                  [&](const auto& known) { return known.second == array.dtype; });
  require(type != std::end(kTypes), "{}: NPY has no {}", path.string(), dtype_name(array.dtype));
  require_filled(array.shape, array.dtype, array.bytes.size(), path.string());
  auto header =
      fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': ({}{}), }}", type->first,
                  fmt::join(array.shape, ", "), array.shape.size() == 1 ? "," : "");
  constexpr size_t kAlign = 64, kBegin = 10;
  header.append(kAlign - (kBegin + header.size() + 1) % kAlign, ' ');
  header += '\n';
  AtomicFile file(path);
  file.write(std::string(kMagic) + std::string("\x01\x00", 2) +
             static_cast<char>(header.size() & 0xff) + static_cast<char>(header.size() >> 8) +
             header);
  file.write(std::span(array.bytes));
  file.commit();
}

}  // namespace cajal::data
