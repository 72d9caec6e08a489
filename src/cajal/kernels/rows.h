#pragma once
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "cajal/core/threads.h"
#include "cajal/kernels/formats/format.h"

/// Products with chosen rows of a stored matrix: the two halves of every feed-forward block that
/// evaluates only some of its neurons. The vectors of a batch share each row that is read (up to 8
/// of them). Results are bitwise the same for every number of threads, and dot products for every
/// batch.
namespace cajal {

/// A matrix stored row by row; it owns nothing. Row r starts r * stride bytes after `data`.
struct RowMatrix {
  Format format = Format::f32;
  const void* data = nullptr;
  int64_t rows = 0;
  int64_t width = 0;   // values in a row
  int64_t stride = 0;  // bytes from row to row

  const uint8_t* row(int64_t r) const { return static_cast<const uint8_t*>(data) + r * stride; }
};

/// A checked RowMatrix; `stride` 0 means rows without space between. Throws Error that starts with
/// `where` when the width cuts a block or the stride is shorter than a row.
RowMatrix row_matrix(Format format, const void* data, int64_t rows, int64_t width,
                     std::string_view where, int64_t stride = 0);

/// Which rows of a matrix: a range or a list in any order.
class RowSet {
 public:
  static RowSet range(int64_t begin, int64_t end) { return {begin, end - begin, nullptr}; }
  static RowSet list(std::span<const int32_t> rows) {
    return {0, static_cast<int64_t>(rows.size()), rows.data()};
  }

  int64_t count() const { return count_; }
  int64_t operator[](int64_t i) const { return list_ ? list_[i] : begin_ + i; }

 private:
  RowSet(int64_t begin, int64_t count, const int32_t* list)
      : begin_(begin), count_(count), list_(list) {}

  int64_t begin_, count_;
  const int32_t* list_;
};

/// y[b, i] = row rows[i] . x[b], with x in single precision.
/// Shapes: x [batch, width], y [batch, rows.count()].
void dot_rows(const RowMatrix& matrix, const RowSet& rows, const float* x, int64_t batch, float* y,
              ThreadPool& threads);

/// Vectors rounded to integers in blocks of 32, x ~ scale * code, for products with quantised rows.
/// 8 bits is what ggml does: a step is 1/127 of the block's largest value; with 16 it is 1/32512.
/// Kept apart from the product because several matrices read the same x.
struct RoundedActivations {
  /// x [batch, width]. Throws Error when width is not a multiple of 32 or bits is not 8 or 16.
  RoundedActivations(const float* x, int64_t batch, int64_t width, int bits);

  std::vector<float> values() const;  // what the codes stand for [batch, width]

  int64_t batch, width;
  int bits;
  int64_t stride;                // width rounded up to 256; what is beyond width is zero
  std::vector<int8_t> codes[2];  // [batch, stride] each; at 16 bits code = 256 codes[0] + codes[1]
  std::vector<float> scales;     // [batch, stride / 32]
  std::vector<float> sums;       // of scale * code over a block [batch, stride / 32]
  std::vector<int32_t> totals;   // of the codes over half a block [batch, stride / 16]
};

/// y[b, i] = row rows[i] . x[b] for quantised rows, in integers within a block where the processor
/// has the instructions (AVX-512 VNNI); y [batch, rows.count()].
/// Throws Error when the matrix is not quantised or x has another width.
void dot_rows(const RowMatrix& matrix, const RowSet& rows, const RoundedActivations& x, float* y,
              ThreadPool& threads);

/// y[b] += sum over i of a[b, i] * row rows[i]. For rows that ascend it is added up in an order
/// that depends on their numbers alone, so that leaving out rows whose a is 0 changes no bit.
/// Shapes: a [batch, rows.count()], y [batch, width].
void gather_axpy(const RowMatrix& matrix, const RowSet& rows, const float* a, int64_t batch,
                 float* y, ThreadPool& threads);

/// The same by decode_row and plain loops: what the fast ones are tested against.
namespace naive {
void dot_rows(const RowMatrix& matrix, const RowSet& rows, const float* x, int64_t batch, float* y,
              ThreadPool& threads);
void gather_axpy(const RowMatrix& matrix, const RowSet& rows, const float* a, int64_t batch,
                 float* y, ThreadPool& threads);
}  // namespace naive

}  // namespace cajal
