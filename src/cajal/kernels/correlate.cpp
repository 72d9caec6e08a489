#include "cajal/kernels/correlate.h"

#include <algorithm>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cajal/kernels/correlate.cpp"
#include "cajal/kernels/simd_targets.h"
// After the choice of targets.
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace cajal {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <class T>
HWY_INLINE void Correlate(const T* x, const int64_t* offsets, const T* weights, int64_t taps,
                          int64_t length, T* y) {
  constexpr hn::ScalableTag<T> d;
  constexpr int64_t kLanes = hn::MaxLanes(d);
  int64_t i = 0;
  for (; i + 4 * kLanes <= length; i += 4 * kLanes) {
    auto a = hn::Zero(d), b = a, c = a, e = a;
    for (int64_t k = 0; k < taps; ++k) {
      const auto weight = hn::Set(d, weights[k]);
      const T* from = x + i + offsets[k];
      a = hn::MulAdd(weight, hn::LoadU(d, from), a);
      b = hn::MulAdd(weight, hn::LoadU(d, from + kLanes), b);
      c = hn::MulAdd(weight, hn::LoadU(d, from + 2 * kLanes), c);
      e = hn::MulAdd(weight, hn::LoadU(d, from + 3 * kLanes), e);
    }
    hn::StoreU(a, d, y + i), hn::StoreU(b, d, y + i + kLanes);
    hn::StoreU(c, d, y + i + 2 * kLanes), hn::StoreU(e, d, y + i + 3 * kLanes);
  }
  for (; i < length; ++i) {
    T sum = 0;
    for (int64_t k = 0; k < taps; ++k) sum += weights[k] * x[i + offsets[k]];
    y[i] = sum;
  }
}

/// Four offsets at a time, so that each vector of y is read once for all of them.
template <class T>
HWY_INLINE void CorrelateSums(const T* x, const int64_t* offsets, const T* y, int64_t taps,
                              int64_t length, T* sums) {
  constexpr hn::ScalableTag<T> d;
  constexpr int64_t kLanes = hn::MaxLanes(d), kBlock = 4096;  // of both lines stays in the cache
  std::fill(sums, sums + taps, T{0});
  for (int64_t begin = 0; begin < length; begin += kBlock) {
    const int64_t end = std::min(length, begin + kBlock);
    for (int64_t k = 0; k < taps; k += 4) {
      const int64_t count = std::min<int64_t>(4, taps - k);
      const T* from[4];
      for (int64_t j = 0; j < 4; ++j) from[j] = x + offsets[k + std::min(j, count - 1)];
      auto a = hn::Zero(d), b = a, c = a, e = a;
      int64_t i = begin;
      for (; i + kLanes <= end; i += kLanes) {
        const auto value = hn::LoadU(d, y + i);
        a = hn::MulAdd(value, hn::LoadU(d, from[0] + i), a);
        b = hn::MulAdd(value, hn::LoadU(d, from[1] + i), b);
        c = hn::MulAdd(value, hn::LoadU(d, from[2] + i), c);
        e = hn::MulAdd(value, hn::LoadU(d, from[3] + i), e);
      }
      T total[4] = {hn::GetLane(hn::SumOfLanes(d, a)), hn::GetLane(hn::SumOfLanes(d, b)),
                    hn::GetLane(hn::SumOfLanes(d, c)), hn::GetLane(hn::SumOfLanes(d, e))};
      for (; i < end; ++i)
        for (int64_t j = 0; j < count; ++j) total[j] += y[i] * from[j][i];
      for (int64_t j = 0; j < count; ++j) sums[k + j] += total[j];
    }
  }
}

// One function a type, for dynamic dispatch takes no templates.
void CorrelateF(const float* x, const int64_t* offsets, const float* weights, int64_t taps,
                int64_t length, float* y) {
  Correlate(x, offsets, weights, taps, length, y);
}
void CorrelateD(const double* x, const int64_t* offsets, const double* weights, int64_t taps,
                int64_t length, double* y) {
  Correlate(x, offsets, weights, taps, length, y);
}
void SumsF(const float* x, const int64_t* offsets, const float* y, int64_t taps, int64_t length,
           float* sums) {
  CorrelateSums(x, offsets, y, taps, length, sums);
}
void SumsD(const double* x, const int64_t* offsets, const double* y, int64_t taps, int64_t length,
           double* sums) {
  CorrelateSums(x, offsets, y, taps, length, sums);
}

}  // namespace HWY_NAMESPACE
}  // namespace cajal
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cajal {

HWY_EXPORT(CorrelateF);
HWY_EXPORT(CorrelateD);
HWY_EXPORT(SumsF);
HWY_EXPORT(SumsD);

void correlate(const float* x, std::span<const int64_t> offsets, const float* weights,
               int64_t length, float* y) {
  HWY_DYNAMIC_DISPATCH(CorrelateF)
  (x, offsets.data(), weights, static_cast<int64_t>(offsets.size()), length, y);
}

void correlate(const double* x, std::span<const int64_t> offsets, const double* weights,
               int64_t length, double* y) {
  HWY_DYNAMIC_DISPATCH(CorrelateD)
  (x, offsets.data(), weights, static_cast<int64_t>(offsets.size()), length, y);
}

void correlate_sums(const float* x, std::span<const int64_t> offsets, const float* y,
                    int64_t length, float* sums) {
  HWY_DYNAMIC_DISPATCH(SumsF)
  (x, offsets.data(), y, static_cast<int64_t>(offsets.size()), length, sums);
}

void correlate_sums(const double* x, std::span<const int64_t> offsets, const double* y,
                    int64_t length, double* sums) {
  HWY_DYNAMIC_DISPATCH(SumsD)
  (x, offsets.data(), y, static_cast<int64_t>(offsets.size()), length, sums);
}

}  // namespace cajal
#endif
