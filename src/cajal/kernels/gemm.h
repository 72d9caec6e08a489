#pragma once
#include <cstdint>
#include <memory>
#include <span>

#include "cajal/core/threads.h"
#include "cajal/kernels/packed.h"
#include "cajal/kernels/rows.h"

/// Products of stored rows with many vectors at once (9 and more): a panel of rows is decoded once,
/// scales multiplied in, and meets all vectors. Results are bitwise the same for every number of
/// threads.
namespace cajal {

/// What the factors of a product are rounded to; sums are always in single precision.
/// bf16: both to bf16 where the processor has matrix instructions for it (AMX), else as f32.
enum class Precision { bf16, f32 };

/// Whether Precision::bf16 uses matrix instructions here.
bool has_matrix_unit();

/// Operations (a multiplication and an addition are two) a second that the threads reach within
/// registers, measured for some milliseconds: no product with that precision can be faster.
double measure_peak(Precision precision, ThreadPool& threads);

/// While it lives, kernels do without the matrix unit: tests of what other processors run.
class WithoutMatrixUnit {
 public:
  WithoutMatrixUnit();
  ~WithoutMatrixUnit();
  WithoutMatrixUnit(const WithoutMatrixUnit&) = delete;
  WithoutMatrixUnit& operator=(const WithoutMatrixUnit&) = delete;
};

struct GemmKernels;

/// Vectors laid out for `multiply_many`; kept apart because several matrices read the same x.
class PackedActivations {
 public:
  /// x [batch, width].
  PackedActivations(const float* x, int64_t batch, int64_t width, ThreadPool& threads,
                    Precision precision = Precision::bf16);
  /// Row tokens[i] of x [.., width] as vector i.
  PackedActivations(const float* x, std::span<const int32_t> tokens, int64_t width,
                    ThreadPool& threads, Precision precision = Precision::bf16);

  int64_t batch() const { return batch_; }
  int64_t width() const { return width_; }
  const GemmKernels& kernels() const { return kernels_; }
  /// The vectors from `first` on, a multiple of kChunk, as the kernels read them.
  const uint8_t* chunk(int64_t first) const;

  static constexpr int64_t kChunk = 512;  // vectors that share one reading of the weights

 private:
  void pack(const float* x, const int32_t* tokens, ThreadPool& threads);

  struct Free {
    void operator()(uint8_t* bytes) const;
  };
  int64_t batch_, width_;
  const GemmKernels& kernels_;
  std::unique_ptr<uint8_t, Free> bytes_;
};

/// y[b, i] = row rows[i] . x[b]; y [batch, rows.count()].
/// Throws Error when x has another width than the matrix.
void multiply_many(const RowMatrix& matrix, const RowSet& rows, const PackedActivations& x,
                   float* y, ThreadPool& threads);

/// The same for all rows of a packed matrix in groups of rows.
void multiply_many(const PackedMatrix& matrix, const PackedActivations& x, float* y,
                   ThreadPool& threads);

/// The same for x [batch, width] as it is.
void multiply_many(const RowMatrix& matrix, const RowSet& rows, const float* x, int64_t batch,
                   float* y, ThreadPool& threads, Precision precision = Precision::bf16);

}  // namespace cajal
