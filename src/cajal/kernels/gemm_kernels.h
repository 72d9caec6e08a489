#pragma once
// Inside of the products with many vectors: how operands are laid out, and the functions that a
// kind of processor brings for them. A product is C[i, j] = sum over k of left[i, k] right[k, j] in
// blocks of kDepth of k. An operand's block is tiles of 16 rows (or columns) by the block's depth,
// one after the other; ragged ends are zeros. C is row-major in single precision.
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <memory>

#include "cajal/kernels/gemm.h"

namespace cajal {

constexpr int64_t kTile = 16;    // rows or columns of a tile
constexpr int64_t kDepth = 256;  // of a block: two tiles pairs of it fill most of L1
constexpr int64_t kPanel = 256;  // rows (or columns) of weights that are decoded at a time

constexpr int64_t round_up(int64_t value, int64_t to) { return (value + to - 1) / to * to; }

/// Rows of `matrix` listed in `rows`, of which `count` from `first` on.
struct RowSlice {
  const RowMatrix& matrix;
  const RowSet& rows;
  int64_t first, count;
  const uint8_t* row(int64_t i) const { return matrix.row(rows[first + i]); }
};

/// One kind of processor's functions. `depth` is of a block, a multiple of 32 once padded.
struct GemmKernels {
  const char* name;
  int64_t value_bytes;  // of packed operands

  /// Up to 16 vectors x[t] (null: zeros) of `width` values from k on as a tile of the right
  /// operand, `depth` deep.
  void (*pack_vectors)(const float* const x[kTile], int64_t k, int64_t width, int64_t depth,
                       uint8_t* tile);
  /// Columns [k, k + depth) of the rows as the left operand: row i is C's row i.
  void (*pack_rows)(const RowSlice& rows, int64_t k, int64_t depth, uint8_t* left);
  /// The rows as the right operand: row i is k = i, columns [first, first + count) are C's columns.
  void (*pack_columns)(const RowSlice& rows, int64_t first, int64_t count, int64_t depth,
                       uint8_t* right);
  /// c [depth, tiles * 16] with rows `stride` floats apart: hidden values, neuron by neuron, as the
  /// left operand whose rows are the columns of c, or as the right operand with the same columns;
  /// its tiles are `tile_bytes` apart.
  using PackHidden = void(const float* c, int64_t stride, int64_t depth, int64_t tiles,
                          int64_t tile_bytes, uint8_t* out);
  PackHidden *pack_hidden_left, *pack_hidden_right;
  /// c = left right, or c += left right. Rows of c are `stride` floats apart. `multiply_hidden` is
  /// for a left operand that pack_hidden_left made.
  using Multiply = void(const uint8_t* left, const uint8_t* right, int64_t row_tiles,
                        int64_t column_tiles, int64_t depth, bool add, float* c, int64_t stride);
  Multiply *multiply, *multiply_hidden;
  /// y[j * y_stride + i] = c[i * stride + j] for i < rows, j < columns; c is readable to the next
  /// multiple of 16 of both.
  void (*transpose)(const float* c, int64_t stride, int64_t rows, int64_t columns, float* y,
                    int64_t y_stride);
  /// Multiplies and adds `rounds` times within registers; returns how many operations that were.
  double (*spin)(int64_t rounds);
  /// Around a thread's use of the functions above.
  void (*begin)(), (*end)();
};

/// Lays out up to 16 vectors (null: zeros) as tile number `tile` of a chunk of `vectors` vectors:
/// one block of kDepth after the other, each with all tiles.
void pack_chunk_tile(const GemmKernels& kernels, const float* const x[kTile], int64_t width,
                     int64_t vectors, int64_t tile, uint8_t* chunk);

const GemmKernels& gemm_kernels(Precision precision);
const GemmKernels& gemm_kernels_f32();
const GemmKernels* gemm_kernels_amx();  // null where the processor or the system has none

/// The values [first, first + count) of a stored row and zeros up to the next multiple of 32.
/// `first` is a multiple of the format's block; of a row that ends earlier what is left.
void decode_columns(Format format, const uint8_t* row, int64_t first, int64_t count, float* out);

/// Memory of a thread that only grows, so that repeated products meet pages that are there.
class Scratch {
 public:
  Scratch() = default;
  ~Scratch() { std::free(data_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  /// At least that many bytes, aligned to 64, their content undefined.
  uint8_t* bytes(size_t count);
  float* floats(size_t count) { return reinterpret_cast<float*>(bytes(count * sizeof(float))); }

 private:
  uint8_t* data_ = nullptr;
  size_t size_ = 0;
};

/// Calls item(0) ... item(count - 1), each on whichever thread is free: items that write different
/// things. Between begin and end of `kernels`.
void for_items(const GemmKernels& kernels, int64_t count, ThreadPool& threads,
               const std::function<void(int64_t)>& item);

}  // namespace cajal
