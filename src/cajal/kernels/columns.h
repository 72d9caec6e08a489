#pragma once
#include <cstdint>

#include "cajal/core/threads.h"

/// Running sums down the columns of a table of activations, one column a neuron: what a census does
/// at every token of every layer.
namespace cajal {

constexpr int64_t kColumns = 16;  // that are summed together

/// Octaves of |x| from 2^-8 to 2^8 in four bins each, one bin for what is smaller; the largest
/// sizes fall into the outermost bin. Negative x lie below the middle bin.
constexpr int kBinOctaves = 16, kBinSide = 4 * kBinOctaves, kBins = 2 * kBinSide + 1;

/// Rows of up to kColumns columns; row r of `post` begins at post + r * stride.
struct ColumnRows {
  const float* post = nullptr;   // activations a
  const float* asked = nullptr;  // x before the law; `post` itself where that is not known
  const float* norm = nullptr;   // [columns] length of each neuron's value row
  const float* least = nullptr;  // [rows] smallest output energy (a norm)^2 of the row's top tenth
  int64_t stride = 0, rows = 0, columns = 0;
  float threshold = 0;  // fired: |a| above it; at 0: x above 0
};

/// Sums of kColumns columns; in each the rows are added one after the other.
struct alignas(64) ColumnSums {
  double sum[kColumns] = {}, absolute[kColumns] = {}, square[kColumns] = {};  // of a, |a|, a^2
  double power[4][kColumns] = {};  // of x/16, its square, cube and fourth power
  int32_t positive[kColumns] = {}, zero[kColumns] = {};  // rows with a > 0 and a = 0
  int32_t high[kColumns] = {};  // rows with a != 0 whose output energy is in the top tenth
  int32_t fired[kColumns] = {};
  float largest[kColumns] = {};  // |a| since it was last set to 0
};

/// Adds the rows to `sums` and writes 1 where a neuron fired, else 0, to fired[row * stride +
/// column]. With `bins` [columns, kBins] also adds up powers and a histogram of x.
void add_columns(const ColumnRows& rows, ColumnSums& sums, uint8_t* fired, uint32_t* bins);

/// out = x - shift, and its column sums and sums of squares added to `sum` and `square`, the rows
/// one after the other. Shapes: x and out [rows, columns]; shift, sum, square [columns]. Row r of x
/// begins at x + r * stride, of out at out + r * out_stride.
void centre_columns(const float* x, int64_t stride, const float* shift, int64_t rows,
                    int64_t columns, float* out, int64_t out_stride, double* sum, double* square,
                    ThreadPool& threads);

/// Writes the output energies (a norm)^2 of a row that are not 0 (NaN included) to `energies`, in
/// order, and returns how many they are. `energies` holds 16 places more than `neurons`.
int64_t live_energies(const float* a, const float* norm, int64_t neurons, float* energies);

}  // namespace cajal
