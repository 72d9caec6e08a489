#include <algorithm>
#include <iterator>

#include "cajal/kernels/laws.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cajal/kernels/laws_vector.cpp"
#include "cajal/kernels/simd_targets.h"
// After the choice of targets.
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// After Highway.
#include <hwy/contrib/math/math-inl.h>

HWY_BEFORE_NAMESPACE();
namespace cajal::laws {
namespace HWY_NAMESPACE {

#include "cajal/kernels/laws/vector-inl.h"
// After the operations on vectors.
#include "cajal/kernels/laws/every-inl.h"

/// What is left over at the end of a run, in whole vectors.
struct Rest {
  static constexpr int64_t kMost = 64;
  alignas(256) float values[kMost] = {};
  explicit Rest(const float* from, int64_t count) { std::copy_n(from, count, values); }
};

template <class L>
void Forward(Sharing sharing, const float* x, int64_t count, const float* parameters, float* y) {
  constexpr int n = ParameterCount<L>();
  const Tag tag;
  const auto step = static_cast<int64_t>(hn::Lanes(tag));
  Lane p[n == 0 ? 1 : n];
  const bool columns = n > 0 && sharing == Sharing::columns;
  for (int k = 0; k < n; ++k) p[k] = {hn::Set(tag, columns ? 0.0f : parameters[k])};
  int64_t i = 0;
  for (; i + step <= count; i += step) {
    if (columns)
      for (int k = 0; k < n; ++k) p[k] = {hn::LoadU(tag, parameters + k * count + i)};
    hn::StoreU(L::Value(Lane{hn::LoadU(tag, x + i)}, p).v, tag, y + i);
  }
  if (i == count) return;
  Rest rest(x + i, count - i);
  if (columns)
    for (int k = 0; k < n; ++k)
      p[k] = {hn::Load(tag, Rest(parameters + k * count + i, count - i).values)};
  hn::Store(L::Value(Lane{hn::Load(tag, rest.values)}, p).v, tag, rest.values);
  std::copy_n(rest.values, count - i, y + i);
}

/// One vector of the backward pass; returns the gradients by the parameters through `by`.
template <class L>
HWY_INLINE Vector Step(Vector x, Vector dy, const Lane* p, Vector* by) {
  const auto y = Differentiated<L>(Lane{x}, p);
  for (int k = 0; k < LearnedCount<L>(); ++k) by[k] = hn::Mul(dy, y.d[k + 1].v);
  return hn::Mul(dy, y.d[0].v);
}

template <class L>
void BackwardAll(const float* x, const float* dy, int64_t count, const float* parameters, float* dx,
                 double* by_parameter) {
  constexpr int n = ParameterCount<L>(), learned = LearnedCount<L>(),
                places = learned == 0 ? 1 : learned;
  const Tag tag;
  const auto step = static_cast<int64_t>(hn::Lanes(tag));
  Lane p[n == 0 ? 1 : n];
  for (int k = 0; k < n; ++k) p[k] = {hn::Set(tag, parameters[k])};
  Vector by[places], sum[places];
  for (int k = 0; k < places; ++k) sum[k] = hn::Zero(tag);
  int64_t i = 0;
  for (; i + step <= count; i += step) {
    hn::StoreU(Step<L>(hn::LoadU(tag, x + i), hn::LoadU(tag, dy + i), p, by), tag, dx + i);
    for (int k = 0; k < learned; ++k) sum[k] = hn::Add(sum[k], by[k]);
  }
  if (i < count) {  // dy is 0 beyond the end
    Rest rest_x(x + i, count - i), rest_dy(dy + i, count - i);
    hn::Store(Step<L>(hn::Load(tag, rest_x.values), hn::Load(tag, rest_dy.values), p, by), tag,
              rest_x.values);
    std::copy_n(rest_x.values, count - i, dx + i);
    for (int k = 0; k < learned; ++k) sum[k] = hn::Add(sum[k], by[k]);
  }
  for (int k = 0; k < learned; ++k) by_parameter[k] += hn::GetLane(hn::SumOfLanes(tag, sum[k]));
}

template <class L>
void BackwardColumns(const float* x, const float* dy, int64_t count, const float* parameters,
                     float* dx, double* by_parameter) {
  constexpr int n = ParameterCount<L>(), learned = LearnedCount<L>();
  const Tag tag;
  const auto step = static_cast<int64_t>(hn::Lanes(tag));
  for (int64_t i = 0; i < count; i += step) {
    const int64_t here = std::min(step, count - i);
    Lane p[n == 0 ? 1 : n];
    for (int k = 0; k < n; ++k)
      p[k] = {hn::Load(tag, Rest(parameters + k * count + i, here).values)};
    Rest rest_x(x + i, here), rest_dy(dy + i, here);
    Vector by[learned == 0 ? 1 : learned];
    hn::Store(Step<L>(hn::Load(tag, rest_x.values), hn::Load(tag, rest_dy.values), p, by), tag,
              rest_x.values);
    std::copy_n(rest_x.values, here, dx + i);
    for (int k = 0; k < learned; ++k) {
      hn::Store(by[k], tag, rest_x.values);
      for (int64_t j = 0; j < here; ++j) by_parameter[k * count + i + j] += rest_x.values[j];
    }
  }
}

template <class L>
void Backward(Sharing sharing, const float* x, const float* dy, int64_t count,
              const float* parameters, float* dx, double* by_parameter) {
  if constexpr (ParameterCount<L>() > 0)
    if (sharing == Sharing::columns)
      return BackwardColumns<L>(x, dy, count, parameters, dx, by_parameter);
  BackwardAll<L>(x, dy, count, parameters, dx, by_parameter);
}

template <class... L>
void ForwardOf(Laws<L...>, int law, Sharing sharing, const float* x, int64_t count,
               const float* parameters, float* y) {
  static constexpr decltype(&Forward<Identity>) kTable[] = {&Forward<L>...};
  kTable[law](sharing, x, count, parameters, y);
}
template <class... L>
void BackwardOf(Laws<L...>, int law, Sharing sharing, const float* x, const float* dy,
                int64_t count, const float* parameters, float* dx, double* by_parameter) {
  static constexpr decltype(&Backward<Identity>) kTable[] = {&Backward<L>...};
  kTable[law](sharing, x, dy, count, parameters, dx, by_parameter);
}

void ForwardAny(int law, Sharing sharing, const float* x, int64_t count, const float* parameters,
                float* y) {
  ForwardOf(EveryLaw{}, law, sharing, x, count, parameters, y);
}
void BackwardAny(int law, Sharing sharing, const float* x, const float* dy, int64_t count,
                 const float* parameters, float* dx, double* by_parameter) {
  BackwardOf(EveryLaw{}, law, sharing, x, dy, count, parameters, dx, by_parameter);
}

}  // namespace HWY_NAMESPACE
}  // namespace cajal::laws
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cajal::laws {

HWY_EXPORT(ForwardAny);
HWY_EXPORT(BackwardAny);

void forward(const Law& law, Sharing sharing, const float* x, int64_t count,
             const float* parameters, float* y) {
  HWY_DYNAMIC_DISPATCH(ForwardAny)(law.index, sharing, x, count, parameters, y);
}

void backward(const Law& law, Sharing sharing, const float* x, const float* dy, int64_t count,
              const float* parameters, float* dx, double* by_parameter) {
  HWY_DYNAMIC_DISPATCH(BackwardAny)
  (law.index, sharing, x, dy, count, parameters, dx, by_parameter);
}

}  // namespace cajal::laws
#endif
