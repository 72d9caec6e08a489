#include "cajal/kernels/copies.h"

#include <algorithm>

#include "cajal/core/error.h"
#include "cajal/core/random.h"

namespace cajal {

MatrixCopies::MatrixCopies(Format format, int64_t rows, int64_t width, int64_t bytes)
    : format_(format), rows_(rows), width_(width) {
  const auto one = row_matrix(format, nullptr, rows, width, "matrix copies");
  require(rows > 0, "matrix copies: {} rows, expected at least 1", rows);
  count_ = std::max<int64_t>(1, (bytes + rows * one.stride - 1) / (rows * one.stride));
  memory_ = WeightMemory(static_cast<size_t>(count_ * rows * one.stride));
  auto* const data = reinterpret_cast<uint8_t*>(memory_.data());
  // Thousands of different rows, then those over and over: normal numbers take their time.
  const int64_t fresh = std::min<int64_t>(rows, 4096), all = count_ * rows;
  Random random(1);
  std::vector<float> values(static_cast<size_t>(width));
  for (int64_t r = 0; r < all; ++r) {
    const int64_t of = r % rows % fresh;
    uint8_t* const row = data + r * one.stride;
    if (r >= fresh) {
      std::copy_n(data + of * one.stride, one.stride, row);
      continue;
    }
    for (auto& value : values) value = static_cast<float>(random.normal()) * 0.03f;
    encode_row(format, values.data(), width, row);
  }
}

RowMatrix MatrixCopies::next() {
  const int64_t bytes = rows_ * row_bytes(format_, width_);
  return row_matrix(format_, memory_.data() + turn_++ % count_ * bytes, rows_, width_,
                    "matrix copies");
}

TreeCopies::TreeCopies(Format format, int64_t depth, int64_t leaf_width, int64_t width,
                       int64_t bytes)
    : depth_(depth),
      node_(format, std::max<int64_t>(1, (int64_t{1} << depth) - 1), width, bytes),
      key_(format, leaf_width << depth, width, bytes),
      value_(format, leaf_width << depth, width, bytes) {}

FeedForwardTree TreeCopies::next() {
  return {.depth = depth_, .node = node_.next(), .key = key_.next(), .value = value_.next()};
}

}  // namespace cajal
