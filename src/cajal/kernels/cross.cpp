#include "cajal/kernels/cross.h"

#include <algorithm>
#include <cstdlib>
#include <vector>

#include "cajal/core/error.h"
#include "cajal/kernels/gemm_kernels.h"

namespace cajal {
namespace {

// All blocks of one panel of columns, packed one behind the other.
int64_t panel_bytes(const GemmKernels& kernels, int64_t tiles, int64_t padded_rows) {
  return tiles * kTile * padded_rows * kernels.value_bytes;
}

int64_t tiles_of(const ColumnTable& table, int64_t panel) {
  return (std::min(kPanel, table.columns - panel * kPanel) + kTile - 1) / kTile;
}

void pack(GemmKernels::PackHidden* pack_block, const GemmKernels& kernels, const ColumnTable& table,
          int64_t first_row, int64_t padded_rows, int64_t panel, uint8_t* out) {
  const int64_t tiles = tiles_of(table, panel);
  for (int64_t k = 0; k < padded_rows; k += kDepth) {
    const int64_t depth = std::min(kDepth, padded_rows - k);
    pack_block(table.data + (first_row + k) * table.stride + panel * kPanel, table.stride, depth,
               tiles, depth * kTile * kernels.value_bytes, out + panel_bytes(kernels, tiles, k));
  }
}

template <class Value>
void add_to(double* total, int64_t stride, const Value* sums, int64_t sums_stride, int64_t rows,
            int64_t columns) {
  for (int64_t i = 0; i < rows; ++i, total += stride, sums += sums_stride)
    for (int64_t j = 0; j < columns; ++j) total[j] += static_cast<double>(sums[j]);
}

}  // namespace

void CrossProducts::Free::operator()(uint8_t* bytes) const { std::free(bytes); }

CrossProducts::CrossProducts(Precision precision) : kernels_(gemm_kernels(precision)) {}

void CrossProducts::add(const ColumnTable& x, const ColumnTable& y, int64_t rows, double* total,
                        int64_t stride, ThreadPool& threads) {
  // Sums of exact factors deserve better than single precision over many rows.
  const bool fine = kernels_.value_bytes == sizeof(float);
  const int64_t x_panels = (x.columns + kPanel - 1) / kPanel;
  const int64_t y_panels = (y.columns + kPanel - 1) / kPanel;
  for (int64_t first = 0; first < rows; first += kRows) {
    const int64_t padded = round_up(std::min(kRows, rows - first), 32);
    const int64_t whole = panel_bytes(kernels_, kPanel / kTile, padded);  // of a left panel
    if (x_panels * whole > left_bytes_) {
      left_.reset();
      left_.reset(
          static_cast<uint8_t*>(std::aligned_alloc(64, static_cast<size_t>(x_panels * whole))));
      require(left_ != nullptr, "no memory for {} bytes of a product's operand", x_panels * whole);
      left_bytes_ = x_panels * whole;
    }
    for_items(kernels_, x_panels, threads, [&](int64_t panel) {
      pack(kernels_.pack_hidden_left, kernels_, x, first, padded, panel,
           left_.get() + panel * whole);
    });
    for_items(kernels_, y_panels, threads, [&](int64_t panel) {
      thread_local Scratch right_memory, sums_memory;
      thread_local std::vector<double> exact(kPanel * kPanel);
      const int64_t columns = tiles_of(y, panel), sums_stride = kPanel + kTile;
      const int64_t width = std::min(kPanel, y.columns - panel * kPanel);
      uint8_t* const right = right_memory.bytes(static_cast<size_t>(whole));
      float* const sums = sums_memory.floats(static_cast<size_t>(kPanel * sums_stride));
      pack(kernels_.pack_hidden_right, kernels_, y, first, padded, panel, right);
      for (int64_t p = 0; p < x_panels; ++p) {
        const int64_t tiles = tiles_of(x, p), height = std::min(kPanel, x.columns - p * kPanel);
        double* const place = total + p * kPanel * stride + panel * kPanel;
        const auto multiply = [&](int64_t k, bool add) {
          kernels_.multiply_hidden(left_.get() + p * whole + panel_bytes(kernels_, tiles, k),
                                   right + panel_bytes(kernels_, columns, k), tiles, columns,
                                   std::min(kDepth, padded - k), add, sums, sums_stride);
        };
        if (!fine) {
          for (int64_t k = 0; k < padded; k += kDepth) multiply(k, k > 0);
          add_to(place, stride, sums, sums_stride, height, width);
          continue;
        }
        std::fill(exact.begin(), exact.end(), 0.0);
        for (int64_t k = 0; k < padded; k += kDepth) {
          multiply(k, false);
          add_to(exact.data(), kPanel, sums, sums_stride, height, width);
        }
        add_to(place, stride, exact.data(), kPanel, height, width);
      }
    });
  }
}

}  // namespace cajal
