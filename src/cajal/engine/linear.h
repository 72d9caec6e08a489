#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "cajal/core/options.h"
#include "cajal/core/threads.h"
#include "cajal/kernels/gemm.h"
#include "cajal/kernels/memory.h"
#include "cajal/kernels/rows.h"

namespace cajal::engine {

/// What vectors are rounded to in front of a quantised matrix. exact: nothing, single precision.
/// rounded: 8 bits in blocks of 32 (as ggml does) for a few vectors, bf16 for many.
enum class Arithmetic { exact, rounded };

/// Vectors that several matrices read, in whatever form their kernels want; each form is made when
/// it is first asked for. A view: `values` [batch, width] must outlive it.
class Input {
 public:
  Input(const float* values, int64_t batch, int64_t width, Arithmetic arithmetic,
        ThreadPool& threads)
      : values(values), batch(batch), width(width), arithmetic(arithmetic), threads(threads) {}

  const RoundedActivations& rounded();
  const PackedActivations& many(Precision precision);

  const float* const values;
  const int64_t batch, width;
  const Arithmetic arithmetic;
  ThreadPool& threads;

 private:
  std::unique_ptr<RoundedActivations> rounded_;
  std::unique_ptr<PackedActivations> many_[2];  // by precision
};

/// y = W x + b for a matrix as it lies in its file: rows of any format, mapped or owned. The one
/// place that knows which kernel multiplies.
struct Linear {
  RowMatrix weight;         // [outputs, inputs]
  std::vector<float> bias;  // [outputs] or empty
  WeightMemory owned;       // where the file's bytes could not be used as they lie

  bool defined() const { return weight.data != nullptr; }
  int64_t outputs() const { return weight.rows; }
  int64_t inputs() const { return weight.width; }
  int64_t bytes() const { return weight.rows * row_bytes(weight.format, weight.width); }

  /// y [batch, outputs].
  void apply(Input& x, float* y) const;
};

}  // namespace cajal::engine

CAJAL_ENUM(cajal::engine::Arithmetic, {cajal::engine::Arithmetic::exact, "exact"},
           {cajal::engine::Arithmetic::rounded, "rounded"})
