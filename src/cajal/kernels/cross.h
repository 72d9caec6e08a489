#pragma once
#include <cstdint>
#include <memory>

#include "cajal/kernels/gemm.h"

/// Products of every column of one table with every column of another, summed over their rows: what
/// correlations between all neurons of two models are made of.
namespace cajal {

/// Columns of a table whose row r begins at data + r * stride. Up to the next multiple of 16
/// columns and of 32 rows must be readable; rows past the end must hold zeros.
struct ColumnTable {
  const float* data = nullptr;
  int64_t columns = 0, stride = 0;
};

/// total[i, j] += sum over the rows of x[., i] y[., j]; row i of `total` [x.columns, ..] is at
/// total + i * stride. Sums are in single precision over 256 rows (factors in bf16: over kRows) and
/// in double beyond.
/// Bitwise the same for every number of threads. Keeps the memory of its operands between calls.
class CrossProducts {
 public:
  static constexpr int64_t kRows = 2048;

  explicit CrossProducts(Precision precision);
  void add(const ColumnTable& x, const ColumnTable& y, int64_t rows, double* total, int64_t stride,
           ThreadPool& threads);

 private:
  const GemmKernels& kernels_;
  struct Free {
    void operator()(uint8_t* bytes) const;
  };
  std::unique_ptr<uint8_t, Free> left_;
  int64_t left_bytes_ = 0;
};

}  // namespace cajal
