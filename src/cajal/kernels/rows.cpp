#include "cajal/kernels/rows.h"

namespace cajal {

RowMatrix row_matrix(Format format, const void* data, int64_t rows, int64_t width,
                     std::string_view where, int64_t stride) {
  require_row(format, width, where);
  require(rows >= 0 && stride >= 0, "{}: {} rows at a stride of {} bytes", where, rows, stride);
  const int64_t bytes = row_bytes(format, width);
  require(stride == 0 || stride >= bytes,
          "{}: the stride is {} bytes, expected at least {} ({} {})", where, stride, bytes, width,
          to_name(format));
  return {format, data, rows, width, stride ? stride : bytes};
}

namespace naive {

void dot_rows(const RowMatrix& matrix, const RowSet& rows, const float* x, int64_t batch, float* y,
              ThreadPool&) {
  std::vector<float> row(matrix.width);
  for (int64_t i = 0; i < rows.count(); ++i) {
    decode_row(matrix.format, matrix.row(rows[i]), matrix.width, row.data());
    for (int64_t b = 0; b < batch; ++b) {
      double sum = 0;
      for (int64_t c = 0; c < matrix.width; ++c) sum += double{row[c]} * x[b * matrix.width + c];
      y[b * rows.count() + i] = static_cast<float>(sum);
    }
  }
}

void gather_axpy(const RowMatrix& matrix, const RowSet& rows, const float* a, int64_t batch,
                 float* y, ThreadPool&) {
  std::vector<float> row(matrix.width);
  for (int64_t b = 0; b < batch; ++b) {
    std::vector<double> sum(y + b * matrix.width, y + (b + 1) * matrix.width);
    for (int64_t i = 0; i < rows.count(); ++i) {
      decode_row(matrix.format, matrix.row(rows[i]), matrix.width, row.data());
      for (int64_t c = 0; c < matrix.width; ++c) sum[c] += double{a[b * rows.count() + i]} * row[c];
    }
    for (int64_t c = 0; c < matrix.width; ++c) y[b * matrix.width + c] = static_cast<float>(sum[c]);
  }
}

}  // namespace naive
}  // namespace cajal
