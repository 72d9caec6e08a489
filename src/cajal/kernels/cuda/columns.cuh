#pragma once
#include "device.cuh"

// A pass over a [rows, columns] bf16 matrix that writes each element and sums each column, once
// through memory: what the gradient of every bias needs. A `Source` says what the elements are.
// Sums are taken in a fixed order, so results repeat bit for bit.
namespace cajal::cuda {

/// How a matrix is cut into blocks of `lanes` x 8 columns and `rows_per_block` rows.
struct ColumnGrid {
  int lanes, rows_per_step, tiles, splits;
  int64_t rows_per_block;

  ColumnGrid(int64_t rows, int columns) {
    const int packs = columns / kPack;
    lanes = 32;
    for (int candidate = 64; candidate >= 20; --candidate)
      if (packs % candidate == 0) {
        lanes = candidate;
        break;
      }
    rows_per_step = 256 / lanes;
    tiles = static_cast<int>(divide_up(packs, lanes));
    const int64_t wanted = divide_up(multiprocessors() * 6, tiles);
    const int64_t most = divide_up(rows, 4 * rows_per_step);
    rows_per_block = divide_up(rows, wanted < most ? wanted : most);
    splits = static_cast<int>(divide_up(rows, rows_per_block));
  }
};

template <class Source>
__global__ void column_kernel(Source source, int64_t rows, int columns, int64_t rows_per_block,
                              bf16* out, float* partial) {
  extern __shared__ float tile[];  // [rows_per_step, lanes * 8]
  const int column = (blockIdx.x * blockDim.x + threadIdx.x) * kPack;
  float sum[kPack] = {};
  const int64_t begin = blockIdx.y * rows_per_block;
  const int64_t end = begin + rows_per_block < rows ? begin + rows_per_block : rows;
  if (column < columns) {
#pragma unroll 2
    for (int64_t row = begin + threadIdx.y; row < end; row += blockDim.y) {
      float value[kPack];
      source.read(row, column, value);
      if (out != nullptr) store(out + row * columns + column, value);
#pragma unroll
      for (int i = 0; i < kPack; ++i) sum[i] += value[i];
    }
  }
  if (partial == nullptr) return;
  const int stride = blockDim.x * kPack;
#pragma unroll
  for (int i = 0; i < kPack; ++i) tile[threadIdx.y * stride + threadIdx.x * kPack + i] = sum[i];
  __syncthreads();
  const int thread = threadIdx.y * blockDim.x + threadIdx.x;
  for (int i = thread; i < stride; i += blockDim.x * blockDim.y) {
    const int at = blockIdx.x * stride + i;
    if (at >= columns) continue;
    float total = 0;
    for (int y = 0; y < static_cast<int>(blockDim.y); ++y) total += tile[y * stride + i];
    partial[static_cast<int64_t>(blockIdx.y) * columns + at] = total;
  }
}

/// Up to three results that lie side by side in the columns of `partial`; null ones are skipped.
struct ColumnSums {
  bf16* out[3];
};

/// out[c / width][c % width] = the sum over `splits` rows of partial[., c], in order.
void finish_columns(const float* partial, int splits, int columns, int width, ColumnSums sums,
                    cudaStream_t stream);

/// Writes source's elements to `out` and their column sums to `sum`; either may be null.
/// `workspace` holds ColumnGrid::splits * columns floats when `sum` is wanted.
template <class Source>
void column_pass(const Source& source, int64_t rows, int columns, bf16* out, bf16* sum,
                 float* workspace, cudaStream_t stream) {
  if (rows == 0) {
    if (sum != nullptr) cudaMemsetAsync(sum, 0, columns * sizeof(bf16), stream);
    return;
  }
  const ColumnGrid grid(rows, columns);
  const dim3 blocks(grid.tiles, grid.splits), threads(grid.lanes, grid.rows_per_step);
  const size_t shared = sizeof(float) * grid.rows_per_step * grid.lanes * kPack;
  column_kernel<<<blocks, threads, shared, stream>>>(source, rows, columns, grid.rows_per_block,
                                                     out, sum != nullptr ? workspace : nullptr);
  check_launch("column_pass");
  if (sum != nullptr)
    finish_columns(workspace, grid.splits, columns, columns, ColumnSums{{sum, nullptr, nullptr}},
                   stream);
}

}  // namespace cajal::cuda
