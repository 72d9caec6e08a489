#pragma once
#include <algorithm>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "cajal/core/threads.h"
#include "cajal/kernels/memory.h"
#include "cajal/kernels/rows.h"

/// Matrices re-laid for the processor: tiles of 32 rows, a lane of a vector for each row, so that
/// products with a few vectors at a time run at the memory's rate, whether all of the matrix is
/// read or a choice of its groups. Results are bitwise the same for every number of threads.
namespace cajal {

/// Rows of a tile.
constexpr int64_t kTileRows = 32;

/// Which side of a matrix its groups are cut from; a group lies in one piece of memory.
enum class Grouping {
  rows,     // 32 rows each: keys, gates, or any matrix that is read whole
  columns,  // one tile wide each (32 columns, 256 in the K formats): values, a row an output
};

/// A matrix in tiles of 32 rows by one block of columns (32 where values stand alone), with the
/// bits and the number of bytes that its rows had, up to padding with zeros. Copies share memory.
///
/// A tile holds, in this order: the fp16 scale of each row; the fp16 minimum of each row where the
/// format has one; then for rows 0-15 and again for rows 16-31 the other bytes of their blocks in
/// words of 4 bytes: the first word of all 16 rows, the second word of all 16 rows, and so on.
/// Codes of q8_0 are 128 larger there, and fifth bit e of q5_0 and q5_1 is bit 8 (e % 4) + e / 4.
class PackedMatrix {
 public:
  PackedMatrix() = default;

  /// Zeros, to be filled by set_row. Throws Error that starts with `where` when the width cuts a
  /// block.
  PackedMatrix(Format format, int64_t rows, int64_t width, Grouping grouping,
               std::string_view where);

  Format format() const { return format_; }
  Grouping grouping() const { return grouping_; }
  int64_t rows() const { return rows_; }
  int64_t width() const { return width_; }
  int64_t tile_columns() const { return tile_columns_; }
  int64_t tile_bytes() const { return tile_bytes_; }  // a multiple of 64
  int64_t row_tiles() const { return row_tiles_; }
  int64_t column_tiles() const { return column_tiles_; }
  int64_t groups() const { return grouping_ == Grouping::rows ? row_tiles_ : column_tiles_; }
  int64_t group_bytes() const {
    return tile_bytes_ * (grouping_ == Grouping::rows ? column_tiles_ : row_tiles_);
  }
  int64_t bytes() const { return static_cast<int64_t>(memory_.size()); }

  /// The tile of rows [32 row_tile, ...) and columns [tile_columns() * column_tile, ...), aligned
  /// to 64 bytes.
  const uint8_t* tile(int64_t row_tile, int64_t column_tile) const {
    return reinterpret_cast<const uint8_t*>(memory_.data()) +
           tile_bytes_ * (grouping_ == Grouping::rows ? row_tile * column_tiles_ + column_tile
                                                      : column_tile * row_tiles_ + row_tile);
  }

  /// Stores the row_bytes(format, width) bytes of a row.
  void set_row(int64_t row, const void* stored);
  /// Stores the part of a row that lies in a tile: row_bytes(format, tile_columns()) bytes.
  void set_block(int64_t row, int64_t column_tile, const void* stored);
  /// The bytes of a row as set_row took them.
  void get_row(int64_t row, void* stored) const;
  /// Of the 32 rows of a row tile the blocks in column tiles [column_tile, column_tile + count),
  /// as set_block took them, `stride` bytes from row to row.
  void get_blocks(int64_t row_tile, int64_t column_tile, int64_t count, uint8_t* stored,
                  int64_t stride) const;

 private:
  template <class Visit>
  void for_words(int64_t row, int64_t column_tile, const Visit& visit) const;

  Format format_ = Format::f32;
  Grouping grouping_ = Grouping::rows;
  int64_t rows_ = 0, width_ = 0, tile_columns_ = 32, tile_bytes_ = 0;
  int64_t row_tiles_ = 0, column_tiles_ = 0;
  WeightMemory memory_;
};

/// Packs the rows of `matrix`, with `order` row order[i] as row i (it may leave rows out). Throws
/// Error when it names a row that is not there.
PackedMatrix pack(const RowMatrix& matrix, Grouping grouping, std::span<const int32_t> order = {});

/// What a packed matrix is multiplied with: `batch` vectors, rounded for quantised formats and in
/// single precision for the others. A view.
struct PackedInput {
  PackedInput(const RoundedActivations& rounded)
      : rounded(&rounded), batch(rounded.batch), width(rounded.width) {}
  /// values [batch, width], `stride` values (0: width) from vector to vector. A stride that is a
  /// multiple of 32, with zeros past the width, saves a copy.
  PackedInput(const float* values, int64_t batch, int64_t width, int64_t stride = 0)
      : values(values), batch(batch), width(width), stride(stride ? stride : width) {}

  const RoundedActivations* rounded = nullptr;
  const float* values = nullptr;
  int64_t batch, width, stride = 0;
};

/// Throws Error unless x has `width` values and is rounded just where the matrix is quantised.
void require_input(const PackedMatrix& matrix, const PackedInput& x, int64_t width);

/// x as kernels read it: vectors in single precision with a stride that is a multiple of 32 and
/// zeros past the width, in `padded` where they are not so already.
PackedInput whole_columns(const PackedInput& x, std::vector<float>& padded);

/// Length of the vectors that `multiply` writes for these groups of rows.
inline int64_t output_width(const PackedMatrix& matrix, const RowSet& groups) {
  return std::min(kTileRows * groups.count(), matrix.rows());
}

/// y[b, 32 i + r] = row r of group groups[i] . x[b], for a matrix in groups of rows; rows past the
/// last one are zero. A list ascends. Shapes: x [batch, matrix.width()],
/// y [batch, output_width(matrix, groups)], which is [batch, rows] when all groups are asked for.
/// Throws Error when the grouping, the width or the kind of x do not fit.
void multiply(const PackedMatrix& matrix, const RowSet& groups, const PackedInput& x, float* y,
              ThreadPool& threads);

/// One thread's share of it, for callers that do more in the same job: groups [begin, end) of the
/// set. Nothing is checked.
void multiply_part(const PackedMatrix& matrix, const RowSet& groups, int64_t begin, int64_t end,
                   const PackedInput& x, float* y);

/// y[b] += the columns of groups[i] times their part i of x[b], over all i, for a matrix in groups
/// of columns. Shapes: x [batch, groups.count() * tile_columns()] (or the width, when that is
/// smaller and all groups are asked for), y [batch, rows]. It is added up in an order that depends
/// on the sizes alone. Throws Error when the grouping, the width or the kind of x do not fit.
void accumulate(const PackedMatrix& matrix, const RowSet& groups, const PackedInput& x, float* y,
                ThreadPool& threads);

/// The same for several matrices with as many rows, in one job.
struct Term {
  const PackedMatrix& matrix;
  const RowSet& groups;
  PackedInput x;
};
void accumulate(std::span<const Term> terms, float* y, ThreadPool& threads);

/// Groups [begin, end) of a term, added up in this order into `sums` [batch, rows up to 32].
struct TermRun {
  const Term* term;
  int64_t begin, end;
  float* sums;
};

/// The same by decode_row and plain loops: what the fast ones are tested against.
namespace naive {
void multiply(const PackedMatrix& matrix, const RowSet& groups, const PackedInput& x, float* y,
              ThreadPool& threads);
void accumulate(const PackedMatrix& matrix, const RowSet& groups, const PackedInput& x, float* y,
                ThreadPool& threads);
}  // namespace naive

}  // namespace cajal
