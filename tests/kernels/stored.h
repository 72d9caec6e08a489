#pragma once
#include <algorithm>
#include <vector>

#include "cajal/kernels/formats/half.h"
#include "cajal/kernels/rows.h"
#include "kernels/every_target.h"

namespace cajal {

/// A random matrix in a format, with `gap` bytes between its rows.
struct Stored {
  Stored(Format format, int64_t rows, int64_t width, int64_t gap = 0, uint64_t seed = 11)
      : Stored(format, rows, width, gap, normals(rows * width, seed)) {}
  Stored(Format format, int64_t rows, int64_t width, int64_t gap, std::vector<float> of)
      : values(std::move(of)),
        bytes(rows * (row_bytes(format, width) + gap), 0x5a),
        view(
            row_matrix(format, bytes.data(), rows, width, "test", row_bytes(format, width) + gap)) {
    for (int64_t r = 0; r < rows; ++r)
      encode_row(format, values.data() + r * width, width, bytes.data() + r * view.stride);
  }
  Stored(const Stored&) = delete;

  /// The same values in another format.
  Stored as(Format format) const { return {format, view.rows, view.width, 0, values}; }

  std::vector<float> values;  // before they were stored
  std::vector<uint8_t> bytes;
  RowMatrix view;
};

}  // namespace cajal
