#pragma once
#include <cstdint>
#include <span>

/// A line beside shifted copies of itself: what depthwise convolutions and their gradients are made
/// of. Offsets may come in any order and may be negative.
namespace cajal {

/// y[i] = Σ_k weights[k] · x[i + offsets[k]] for 0 <= i < length.
void correlate(const float* x, std::span<const int64_t> offsets, const float* weights,
               int64_t length, float* y);
void correlate(const double* x, std::span<const int64_t> offsets, const double* weights,
               int64_t length, double* y);

/// sums[k] = Σ_i y[i] · x[i + offsets[k]] over 0 <= i < length.
void correlate_sums(const float* x, std::span<const int64_t> offsets, const float* y,
                    int64_t length, float* sums);
void correlate_sums(const double* x, std::span<const int64_t> offsets, const double* y,
                    int64_t length, double* sums);

}  // namespace cajal
