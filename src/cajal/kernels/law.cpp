#include "cajal/kernels/law.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cajal/kernels/law.cpp"
#include "cajal/kernels/simd_targets.h"
// After the choice of targets.
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "cajal/kernels/law-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cajal {
namespace HWY_NAMESPACE {

/// y[i] = law(gate[i]) * x[i], or law(gate[i]) without x.
template <Law law>
void LawOf(const float* gate, const float* x, int64_t count, float* y) {
  const hn::ScalableTag<float> d;
  const auto one_vector = [&](const float* g, const float* of, float* to) HWY_ATTR {
    const auto value = Apply<law>(d, hn::LoadU(d, g));
    hn::StoreU(of ? hn::Mul(value, hn::LoadU(d, of)) : value, d, to);
  };
  constexpr int64_t lanes = hn::MaxLanes(d);
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) one_vector(gate + i, x ? x + i : nullptr, y + i);
  if (i == count) return;
  float padded[2][lanes] = {};
  std::copy_n(gate + i, count - i, padded[0]);
  if (x) std::copy_n(x + i, count - i, padded[1]);
  one_vector(padded[0], x ? padded[1] : nullptr, padded[0]);
  std::copy_n(padded[0], count - i, y + i);
}

void LawOfAny(Law law, const float* gate, const float* x, int64_t count, float* y) {
  WithLaw(law, [&](auto of) HWY_ATTR { LawOf<of.value>(gate, x, count, y); });
}

}  // namespace HWY_NAMESPACE
}  // namespace cajal
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cajal {

HWY_EXPORT(LawOfAny);

void apply_law(Law law, const float* x, int64_t count, float* y) {
  HWY_DYNAMIC_DISPATCH(LawOfAny)(law, x, nullptr, count, y);
}

void apply_gate(Law law, const float* gate, const float* x, int64_t count, float* y) {
  HWY_DYNAMIC_DISPATCH(LawOfAny)(law, gate, x, count, y);
}

}  // namespace cajal
#endif
