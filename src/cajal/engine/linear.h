#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "cajal/core/options.h"
#include "cajal/core/threads.h"
#include "cajal/kernels/gemm.h"
#include "cajal/kernels/memory.h"
#include "cajal/kernels/packed.h"
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

/// y = W x + b for a matrix as it lies in its file, rows of any format, mapped or owned; or, for
/// quantised ones, packed. The one place that knows which kernel multiplies.
struct Linear {
  RowMatrix weight;         // [outputs, inputs]; without data once it is packed
  PackedMatrix packed;      // the same in tiles
  std::vector<float> bias;  // [outputs] or empty
  WeightMemory owned;       // where the file's bytes could not be used as they lie

  bool defined() const { return weight.rows > 0; }
  bool is_packed() const { return packed.rows() > 0; }
  int64_t outputs() const { return weight.rows; }
  int64_t inputs() const { return weight.width; }
  int64_t bytes() const { return weight.rows * row_bytes(weight.format, weight.width); }

  /// y [batch, outputs].
  void apply(Input& x, float* y) const;
  /// The weights of one output, values [inputs].
  void decode(int64_t output, float* values) const;

  /// Lays a quantised matrix in tiles, which a few vectors are multiplied with at the memory's
  /// rate. `forget` is told of each piece of the old bytes that is no longer needed.
  void pack(ThreadPool& threads, const std::function<void(std::span<const std::byte>)>& forget);
};

/// A map and where its outputs go, y [batch, outputs].
struct Product {
  const Linear& map;
  float* y;
};

/// Several maps of the same vectors, in one job where they can be. `then(begin, end)`, when given,
/// is called for runs of outputs once all maps, as many outputs in each, have them.
void apply(std::span<const Product> products, Input& x,
           const std::function<void(int64_t begin, int64_t end)>& then = {});

}  // namespace cajal::engine

CAJAL_ENUM(cajal::engine::Arithmetic, {cajal::engine::Arithmetic::exact, "exact"},
           {cajal::engine::Arithmetic::rounded, "rounded"})
