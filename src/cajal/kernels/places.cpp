#include "cajal/kernels/places.h"

#include <cmath>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cajal/kernels/places.cpp"
#include "cajal/kernels/simd_targets.h"
// After the choice of targets.
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace cajal {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// Writes the places that `keeps` and returns how many; `out` has room for all.
template <class Keeps, class KeepsOne>
HWY_INLINE int64_t Write(int64_t count, const Keeps& keeps, const KeepsOne& keeps_one,
                         int32_t* out) {
  const hn::CappedTag<float, 16> d;
  const hn::RebindToSigned<decltype(d)> di;
  constexpr int64_t kLanes = hn::MaxLanes(d);
  int32_t* to = out;
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    const auto mask = hn::RebindMask(di, keeps(d, i));
    to += hn::CompressBlendedStore(hn::Iota(di, static_cast<int32_t>(i)), mask, di, to);
  }
  for (; i < count; ++i)
    if (keeps_one(i)) *to++ = static_cast<int32_t>(i);
  return to - out;
}

int64_t Loud(const float* x, int64_t count, float least, int32_t* out) {
  return Write(
      count,
      [=](auto d, int64_t i)
          HWY_ATTR { return hn::Not(hn::Le(hn::Abs(hn::LoadU(d, x + i)), hn::Set(d, least))); },
      [=](int64_t i) { return !(std::fabs(x[i]) <= least); }, out);
}

int64_t AtLeast(const float* x, const float* least, int64_t count, int32_t* out) {
  return Write(
      count,
      [=](auto d, int64_t i)
          HWY_ATTR { return hn::Ge(hn::LoadU(d, x + i), hn::LoadU(d, least + i)); },
      [=](int64_t i) { return x[i] >= least[i]; }, out);
}

}  // namespace HWY_NAMESPACE
}  // namespace cajal
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cajal {

HWY_EXPORT(Loud);
HWY_EXPORT(AtLeast);

std::vector<int32_t> loud_places(const float* x, int64_t count, float least) {
  std::vector<int32_t> out(static_cast<size_t>(count));
  out.resize(static_cast<size_t>(HWY_DYNAMIC_DISPATCH(Loud)(x, count, least, out.data())));
  return out;
}

void append_places_from(const float* x, const float* least, int64_t count,
                        std::vector<int32_t>& out) {
  const size_t before = out.size();
  out.resize(before + static_cast<size_t>(count));
  const int64_t found = HWY_DYNAMIC_DISPATCH(AtLeast)(x, least, count, out.data() + before);
  out.resize(before + static_cast<size_t>(found));
}

}  // namespace cajal
#endif
