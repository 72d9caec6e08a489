#include "cajal/kernels/gemm.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "cajal/core/error.h"
#include "cajal/core/timing.h"
#include "cajal/kernels/gemm_kernels.h"

namespace cajal {
namespace {

std::atomic<int> matrix_unit_off = 0;

uint8_t* allocate(size_t bytes) {
  void* const out = std::aligned_alloc(64, std::max<size_t>(64, round_up(bytes, 64)));
  require(out != nullptr, "no memory for {} bytes of a product's operand", bytes);
  return static_cast<uint8_t*>(out);
}

}  // namespace

bool has_matrix_unit() { return matrix_unit_off == 0 && gemm_kernels_amx() != nullptr; }
WithoutMatrixUnit::WithoutMatrixUnit() { ++matrix_unit_off; }
WithoutMatrixUnit::~WithoutMatrixUnit() { --matrix_unit_off; }

const GemmKernels& gemm_kernels(Precision precision) {
  return precision == Precision::bf16 && has_matrix_unit() ? *gemm_kernels_amx()
                                                           : gemm_kernels_f32();
}

double measure_peak(Precision precision, ThreadPool& threads) {
  const GemmKernels& kernels = gemm_kernels(precision);
  double best = 0;
  std::vector<double> operations(threads.size());
  for (int round = 0; round < 8; ++round) {
    const Stopwatch clock;
    threads.run([&](int part) {
      kernels.begin();
      operations[part] = kernels.spin(100'000);
      kernels.end();
    });
    best = std::max(best,
                    std::accumulate(operations.begin(), operations.end(), 0.0) / clock.seconds());
  }
  return best;
}

uint8_t* Scratch::bytes(size_t count) {
  if (count > size_) {
    std::free(data_);
    data_ = nullptr, size_ = 0;  // should there be no memory
    data_ = allocate(count);
    size_ = count;
  }
  return data_;
}

void for_items(const GemmKernels& kernels, int64_t count, ThreadPool& threads,
               const std::function<void(int64_t)>& item) {
  if (count == 0) return;
  std::atomic<int64_t> next = 0;
  const auto work = [&](int) {
    kernels.begin();
    for (int64_t i; (i = next++) < count;) item(i);
    kernels.end();
  };
  if (count == 1) return work(0);
  threads.run(work);
}

void PackedActivations::Free::operator()(uint8_t* bytes) const { std::free(bytes); }

PackedActivations::PackedActivations(const float* x, int64_t batch, int64_t width,
                                     ThreadPool& threads, Precision precision)
    : batch_(batch), width_(width), kernels_(gemm_kernels(precision)) {
  pack(x, nullptr, threads);
}

PackedActivations::PackedActivations(const float* x, std::span<const int32_t> tokens, int64_t width,
                                     ThreadPool& threads, Precision precision)
    : batch_(static_cast<int64_t>(tokens.size())),
      width_(width),
      kernels_(gemm_kernels(precision)) {
  pack(x, tokens.data(), threads);
}

const uint8_t* PackedActivations::chunk(int64_t first) const {
  return bytes_.get() + first * round_up(width_, 32) * kernels_.value_bytes;
}

void pack_chunk_tile(const GemmKernels& kernels, const float* const x[kTile], int64_t width,
                     int64_t vectors, int64_t tile, uint8_t* chunk) {
  const int64_t padded = round_up(width, 32);
  for (int64_t k = 0; k < padded; k += kDepth) {
    const int64_t depth = std::min(kDepth, padded - k);
    kernels.pack_vectors(x, k, width, depth,
                         chunk + (k * vectors + tile * kTile * depth) * kernels.value_bytes);
  }
}

void PackedActivations::pack(const float* x, const int32_t* tokens, ThreadPool& threads) {
  const int64_t row = round_up(width_, 32) * kernels_.value_bytes;
  bytes_.reset(allocate(round_up(batch_, kTile) * row));
  for_items(kernels_, (batch_ + kTile - 1) / kTile, threads, [&](int64_t tile) {
    const float* of[kTile];
    for (int64_t i = 0; i < kTile; ++i) {
      const int64_t b = tile * kTile + i;
      of[i] = b < batch_ ? x + (tokens ? tokens[b] : b) * width_ : nullptr;
    }
    const int64_t first = tile * kTile / kChunk * kChunk;
    pack_chunk_tile(kernels_, of, width_, round_up(std::min(kChunk, batch_ - first), kTile),
                    tile - first / kTile, bytes_.get() + first * row);
  });
}

namespace {

/// y = the product of `rows` rows with x. pack_left(first, count, k, depth, left) lays out columns
/// [k, k + depth) of rows [first, first + count), where `first` is a multiple of 32.
template <class PackLeft>
void multiply_panels(int64_t rows, int64_t width, const PackedActivations& x, float* y,
                     ThreadPool& threads, const PackLeft& pack_left) {
  require(x.width() == width, "multiply_many: vectors of {}, rows of {}", x.width(), width);
  const GemmKernels& kernels = x.kernels();
  const int64_t padded = round_up(width, 32);
  // Panels small enough that every thread gets some.
  const int64_t fair = round_up(rows / (4 * threads.size()), kTileRows);
  const int64_t panel = std::clamp(fair, 4 * kTile, kPanel);
  const int64_t panels = (rows + panel - 1) / panel;
  for (int64_t start = 0; start < x.batch(); start += x.kChunk) {
    const int64_t vectors = std::min(x.kChunk, x.batch() - start),
                  stored = round_up(vectors, kTile);
    const uint8_t* const packed = x.chunk(start);
    for_items(kernels, panels, threads, [&](int64_t item) {
      thread_local Scratch left_memory, sums_memory;
      const int64_t first = item * panel, count = std::min(panel, rows - first);
      const int64_t tiles = (count + kTile - 1) / kTile, stride = stored + kTile;
      uint8_t* const left = left_memory.bytes(kPanel * kDepth * sizeof(float));
      float* const sums = sums_memory.floats(tiles * kTile * stride);
      for (int64_t k = 0; k < padded; k += kDepth) {
        const int64_t depth = std::min(kDepth, padded - k);
        pack_left(first, count, k, depth, left);
        kernels.multiply(left, packed + k * stored * kernels.value_bytes, tiles, stored / kTile,
                         depth, k > 0, sums, stride);
      }
      kernels.transpose(sums, stride, count, vectors, y + start * rows + first, rows);
    });
  }
}

}  // namespace

void multiply_many(const RowMatrix& matrix, const RowSet& rows, const PackedActivations& x,
                   float* y, ThreadPool& threads) {
  multiply_panels(rows.count(), matrix.width, x, y, threads,
                  [&](int64_t first, int64_t count, int64_t k, int64_t depth, uint8_t* left) {
                    x.kernels().pack_rows({matrix, rows, first, count}, k, depth, left);
                  });
}

void multiply_many(const PackedMatrix& matrix, const PackedActivations& x, float* y,
                   ThreadPool& threads) {
  require(matrix.grouping() == Grouping::rows, "multiply_many needs groups of rows");
  const int64_t columns = matrix.tile_columns(), block = matrix.tile_bytes() / kTileRows;
  multiply_panels(
      matrix.rows(), matrix.width(), x, y, threads,
      [&](int64_t first, int64_t count, int64_t k, int64_t depth, uint8_t* left) {
        thread_local Scratch rows_memory;
        const int64_t tiles = depth / columns, stride = tiles * block;
        uint8_t* const rows = rows_memory.bytes(kPanel * stride);
        for (int64_t r = 0; r < count; r += kTileRows)
          matrix.get_blocks((first + r) / kTileRows, k / columns, tiles, rows + r * stride, stride);
        const RowMatrix piece{matrix.format(), rows, count, std::min(depth, matrix.width() - k),
                              stride};
        x.kernels().pack_rows({piece, RowSet::range(0, count), 0, count}, 0, depth, left);
      });
}

void multiply_many(const RowMatrix& matrix, const RowSet& rows, const float* x, int64_t batch,
                   float* y, ThreadPool& threads, Precision precision) {
  multiply_many(matrix, rows, PackedActivations(x, batch, matrix.width, threads, precision), y,
                threads);
}

}  // namespace cajal
