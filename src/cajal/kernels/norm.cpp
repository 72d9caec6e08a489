#include "cajal/kernels/norm.h"

#include <algorithm>
#include <cmath>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cajal/kernels/norm.cpp"
#include "cajal/kernels/simd_targets.h"
// After the choice of targets.
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "cajal/kernels/law-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cajal {
namespace HWY_NAMESPACE {

constexpr hn::ScalableTag<float> df;
constexpr int64_t kLanes = hn::MaxLanes(df);
using VF = hn::Vec<decltype(df)>;

/// Calls visit(i, d) for the vectors of a row and then, with a tag of one lane, for what is left.
template <class Visit>
HWY_INLINE void ForVectors(int64_t width, const Visit& visit) {
  int64_t i = 0;
  for (; i + kLanes <= width; i += kLanes) visit(i, df);
  for (; i < width; ++i) visit(i, hn::CappedTag<float, 1>());
}

/// The sum of term(d, i) over a row, in four chains of additions.
template <class Term>
HWY_INLINE float SumOf(int64_t width, const Term& term) {
  VF sum[4] = {hn::Zero(df), hn::Zero(df), hn::Zero(df), hn::Zero(df)};
  int64_t i = 0;
  for (; i + 4 * kLanes <= width; i += 4 * kLanes)
    for (int k = 0; k < 4; ++k) sum[k] = hn::Add(sum[k], term(df, i + k * kLanes));
  for (; i + kLanes <= width; i += kLanes) sum[0] = hn::Add(sum[0], term(df, i));
  float total =
      hn::GetLane(hn::SumOfLanes(df, hn::Add(hn::Add(sum[0], sum[1]), hn::Add(sum[2], sum[3]))));
  for (; i < width; ++i) total += hn::GetLane(term(hn::CappedTag<float, 1>(), i));
  return total;
}

void RmsNorm(const float* x, const float* weight, int64_t width, float epsilon, float offset,
             float* y) {
  const float squares = SumOf(width, [&](auto d, int64_t i) HWY_ATTR {
    const auto value = hn::LoadU(d, x + i);
    return hn::Mul(value, value);
  });
  const float scale = 1 / std::sqrt(squares / static_cast<float>(width) + epsilon);
  ForVectors(width, [&](int64_t i, auto d) HWY_ATTR {
    auto value = hn::Mul(hn::LoadU(d, x + i), hn::Set(d, scale));
    if (weight) value = hn::Mul(value, hn::Add(hn::LoadU(d, weight + i), hn::Set(d, offset)));
    hn::StoreU(value, d, y + i);
  });
}

void LayerNorm(const float* x, const float* weight, const float* bias, int64_t width, float epsilon,
               float* y) {
  const float count = static_cast<float>(width);
  const float mean =
      SumOf(width, [&](auto d, int64_t i) HWY_ATTR { return hn::LoadU(d, x + i); }) / count;
  const float squares = SumOf(width, [&](auto d, int64_t i) HWY_ATTR {
    const auto value = hn::Sub(hn::LoadU(d, x + i), hn::Set(d, mean));
    return hn::Mul(value, value);
  });
  const float scale = 1 / std::sqrt(squares / count + epsilon);
  ForVectors(width, [&](int64_t i, auto d) HWY_ATTR {
    auto value = hn::Mul(hn::Sub(hn::LoadU(d, x + i), hn::Set(d, mean)), hn::Set(d, scale));
    if (weight) value = hn::Mul(value, hn::LoadU(d, weight + i));
    if (bias) value = hn::Add(value, hn::LoadU(d, bias + i));
    hn::StoreU(value, d, y + i);
  });
}

void Softmax(const float* x, int64_t width, float* y) {
  float largest = x[0];
  for (int64_t i = 1; i < width; ++i) largest = std::max(largest, x[i]);
  ForVectors(width, [&](int64_t i, auto d) HWY_ATTR {
    hn::StoreU(Exp(d, hn::Sub(hn::LoadU(d, x + i), hn::Set(d, largest))), d, y + i);
  });
  const float scale =
      1 / SumOf(width, [&](auto d, int64_t i) HWY_ATTR { return hn::LoadU(d, y + i); });
  ForVectors(width, [&](int64_t i, auto d) HWY_ATTR {
    hn::StoreU(hn::Mul(hn::LoadU(d, y + i), hn::Set(d, scale)), d, y + i);
  });
}

/// Pairs (i, pairs + i) of one head.
void RotateHalves(float* x, const float* cosine, const float* sine, int64_t pairs) {
  ForVectors(pairs, [&](int64_t i, auto d) HWY_ATTR {
    const auto a = hn::LoadU(d, x + i), b = hn::LoadU(d, x + pairs + i);
    const auto c = hn::LoadU(d, cosine + i), s = hn::LoadU(d, sine + i);
    hn::StoreU(hn::NegMulAdd(b, s, hn::Mul(a, c)), d, x + i);
    hn::StoreU(hn::MulAdd(a, s, hn::Mul(b, c)), d, x + pairs + i);
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace cajal
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cajal {

HWY_EXPORT(RmsNorm);
HWY_EXPORT(LayerNorm);
HWY_EXPORT(Softmax);
HWY_EXPORT(RotateHalves);

void rms_norm(const float* x, const float* weight, int64_t batch, int64_t width, float epsilon,
              float* y, float offset) {
  for (int64_t b = 0; b < batch; ++b) HWY_DYNAMIC_DISPATCH(RmsNorm)
  (x + b * width, weight, width, epsilon, offset, y + b * width);
}

void layer_norm(const float* x, const float* weight, const float* bias, int64_t batch,
                int64_t width, float epsilon, float* y) {
  for (int64_t b = 0; b < batch; ++b) HWY_DYNAMIC_DISPATCH(LayerNorm)
  (x + b * width, weight, bias, width, epsilon, y + b * width);
}

void softmax(const float* x, int64_t batch, int64_t width, float* y) {
  if (width == 0) return;
  for (int64_t b = 0; b < batch; ++b)
    HWY_DYNAMIC_DISPATCH(Softmax)(x + b * width, width, y + b * width);
}

void rotary_angles(const float* frequency, int64_t pairs, int64_t first, int64_t tokens,
                   float factor, float* cosine, float* sine) {
  for (int64_t t = 0; t < tokens; ++t) {
    for (int64_t i = 0; i < pairs; ++i) {
      const float angle = static_cast<float>(first + t) * frequency[i];
      cosine[t * pairs + i] = std::cos(angle) * factor;
      sine[t * pairs + i] = std::sin(angle) * factor;
    }
  }
}

void rotate(float* x, int64_t tokens, int64_t heads, int64_t head_width, int64_t stride,
            const float* cosine, const float* sine, int64_t pairs, RotaryLayout layout) {
  for (int64_t t = 0; t < tokens; ++t, cosine += pairs, sine += pairs) {
    for (int64_t head = 0; head < heads; ++head) {
      float* const of = x + t * stride + head * head_width;
      if (layout == RotaryLayout::halves) {
        HWY_DYNAMIC_DISPATCH(RotateHalves)(of, cosine, sine, pairs);
        continue;
      }
      for (int64_t i = 0; i < pairs; ++i) {
        const float a = of[2 * i], b = of[2 * i + 1];
        of[2 * i] = a * cosine[i] - b * sine[i];
        of[2 * i + 1] = a * sine[i] + b * cosine[i];
      }
    }
  }
}

}  // namespace cajal
#endif
