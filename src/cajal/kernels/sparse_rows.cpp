#include "cajal/kernels/sparse_rows.h"

#include <algorithm>
#include <array>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cajal/kernels/sparse_rows.cpp"
#include "cajal/kernels/simd_targets.h"
// After the choice of targets.
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace cajal {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

template <class T>
using Tag = hn::CappedTag<T, 16>;

template <class T>
HWY_INLINE T Dot(const T* a, const T* b, int64_t width) {
  const Tag<T> d;
  constexpr int64_t kLanes = hn::MaxLanes(d);
  auto first = hn::Zero(d), second = first;
  int64_t c = 0;
  for (; c + 2 * kLanes <= width; c += 2 * kLanes) {
    first = hn::MulAdd(hn::LoadU(d, a + c), hn::LoadU(d, b + c), first);
    second = hn::MulAdd(hn::LoadU(d, a + c + kLanes), hn::LoadU(d, b + c + kLanes), second);
  }
  for (; c + kLanes <= width; c += kLanes)
    first = hn::MulAdd(hn::LoadU(d, a + c), hn::LoadU(d, b + c), first);
  T sum = hn::GetLane(hn::SumOfLanes(d, hn::Add(first, second)));
  for (; c < width; ++c) sum += a[c] * b[c];
  return sum;
}

template <class T>
HWY_INLINE void DotsOf(const T* a, const T* b, int64_t width, const SparseRows& s, T* out) {
  for (int64_t i = 0; i < s.rows; ++i) {
    const int32_t* const places = s.places + i * s.most;
    for (int64_t e = 0; e < s.counts[i]; ++e)
      out[i * s.most + e] = Dot(a + i * width, b + places[e] * width, width);
  }
}

/// Columns [c, c + kVectors lanes) of one output row stay in registers over its entries.
template <int kVectors, class T>
HWY_INLINE void SumColumns(const T* p, const T* b, int64_t width, const int32_t* places,
                           int64_t count, int64_t c, T* out) {
  const Tag<T> d;
  constexpr int64_t kLanes = hn::MaxLanes(d);
  hn::Vec<Tag<T>> sum[kVectors];
  for (auto& one : sum) one = hn::Zero(d);
  for (int64_t e = 0; e < count; ++e) {
    const auto weight = hn::Set(d, p[e]);
    const T* const row = b + places[e] * width + c;
    for (int v = 0; v < kVectors; ++v)
      sum[v] = hn::MulAdd(weight, hn::LoadU(d, row + v * kLanes), sum[v]);
  }
  for (int v = 0; v < kVectors; ++v) hn::StoreU(sum[v], d, out + c + v * kLanes);
}

template <class T>
HWY_INLINE void SumOf(const T* p, const T* b, int64_t width, const SparseRows& s, T* out) {
  constexpr int64_t kLanes = hn::MaxLanes(Tag<T>());
  for (int64_t i = 0; i < s.rows; ++i, p += s.most, out += width) {
    const int32_t* const places = s.places + i * s.most;
    const int64_t count = s.counts[i];
    int64_t c = 0;
    for (; c + 4 * kLanes <= width; c += 4 * kLanes)
      SumColumns<4>(p, b, width, places, count, c, out);
    for (; c + kLanes <= width; c += kLanes) SumColumns<1>(p, b, width, places, count, c, out);
    for (; c < width; ++c) {
      T sum = 0;
      for (int64_t e = 0; e < count; ++e) sum += p[e] * b[places[e] * width + c];
      out[c] = sum;
    }
  }
}

template <class T>
HWY_INLINE void SpreadOf(const T* p, const T* a, int64_t width, const SparseRows& s, T* out) {
  const Tag<T> d;
  constexpr int64_t kLanes = hn::MaxLanes(d);
  for (int64_t i = 0; i < s.rows; ++i, p += s.most, a += width)
    for (int64_t e = 0; e < s.counts[i]; ++e) {
      T* const row = out + s.places[i * s.most + e] * width;
      const auto weight = hn::Set(d, p[e]);
      int64_t c = 0;
      for (; c + kLanes <= width; c += kLanes)
        hn::StoreU(hn::MulAdd(weight, hn::LoadU(d, a + c), hn::LoadU(d, row + c)), d, row + c);
      for (; c < width; ++c) row[c] += p[e] * a[c];
    }
}

#define CAJAL_SPARSE_ROWS_FORMS(T, Name)                                                  \
  void Dots##Name(const T* a, const T* b, int64_t width, const SparseRows& s, T* out) {   \
    DotsOf(a, b, width, s, out);                                                          \
  }                                                                                       \
  void Sum##Name(const T* p, const T* b, int64_t width, const SparseRows& s, T* out) {    \
    SumOf(p, b, width, s, out);                                                           \
  }                                                                                       \
  void Spread##Name(const T* p, const T* a, int64_t width, const SparseRows& s, T* out) { \
    SpreadOf(p, a, width, s, out);                                                        \
  }
CAJAL_SPARSE_ROWS_FORMS(float, F32)
CAJAL_SPARSE_ROWS_FORMS(double, F64)
#undef CAJAL_SPARSE_ROWS_FORMS

/// score[j] = how many of the codes of key j equal the query's, plus 1.
void CountEqual(const uint8_t* codes, const uint8_t* key_codes, int64_t stride, int64_t keys,
                int64_t spaces, uint8_t* score) {
  const hn::CappedTag<uint8_t, 64> d;
  constexpr int64_t kLanes = hn::MaxLanes(d);
  const auto one = hn::Set(d, uint8_t{1});
  int64_t j = 0;
  for (; j + kLanes <= keys; j += kLanes) {
    auto sum = one;
    for (int64_t s = 0; s < spaces; ++s) {
      const auto equal = hn::Eq(hn::LoadU(d, key_codes + s * stride + j), hn::Set(d, codes[s]));
      sum = hn::Add(sum, hn::IfThenElseZero(equal, one));
    }
    hn::StoreU(sum, d, score + j);
  }
  for (; j < keys; ++j) {
    score[j] = 1;
    for (int64_t s = 0; s < spaces; ++s) score[j] += key_codes[s * stride + j] == codes[s];
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace cajal
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cajal {

HWY_EXPORT(DotsF32);
HWY_EXPORT(SumF32);
HWY_EXPORT(SpreadF32);
HWY_EXPORT(DotsF64);
HWY_EXPORT(SumF64);
HWY_EXPORT(SpreadF64);
HWY_EXPORT(CountEqual);

template <>
void sparse_dots(const float* a, const float* b, int64_t width, const SparseRows& s, float* out) {
  HWY_DYNAMIC_DISPATCH(DotsF32)(a, b, width, s, out);
}
template <>
void sparse_dots(const double* a, const double* b, int64_t width, const SparseRows& s,
                 double* out) {
  HWY_DYNAMIC_DISPATCH(DotsF64)(a, b, width, s, out);
}
template <>
void sparse_sum(const float* p, const float* b, int64_t width, const SparseRows& s, float* out) {
  HWY_DYNAMIC_DISPATCH(SumF32)(p, b, width, s, out);
}
template <>
void sparse_sum(const double* p, const double* b, int64_t width, const SparseRows& s, double* out) {
  HWY_DYNAMIC_DISPATCH(SumF64)(p, b, width, s, out);
}
template <>
void sparse_spread(const float* p, const float* a, int64_t width, const SparseRows& s, float* out) {
  HWY_DYNAMIC_DISPATCH(SpreadF32)(p, a, width, s, out);
}
template <>
void sparse_spread(const double* p, const double* a, int64_t width, const SparseRows& s,
                   double* out) {
  HWY_DYNAMIC_DISPATCH(SpreadF64)(p, a, width, s, out);
}

namespace {

// A key's place in the order: its slot + 1; 0 = must not be taken, kAlways = must be.
constexpr uint8_t kAlways = 255;

void into_slots(const CodeSearch& search, int64_t keys, int64_t self, const uint8_t* usable,
                uint8_t* score) {
  if (search.order == CodeOrder::quartiles) {
    std::array<uint8_t, 256> slot{};
    for (int64_t equal = 0; equal <= search.spaces; ++equal)
      slot[static_cast<size_t>(equal + 1)] =
          static_cast<uint8_t>(1 + std::min<int64_t>(3, 4 * equal / search.spaces));
    for (int64_t j = 0; j < keys; ++j) score[j] = slot[score[j]];
  }
  std::fill_n(score, std::min(search.sink, keys), kAlways);
  if (search.keep_self && self >= 0 && self < keys) score[self] = kAlways;
  if (usable)
    for (int64_t j = 0; j < keys; ++j)
      if (!usable[j]) score[j] = 0;
}

}  // namespace

void count_equal_codes(const uint8_t* codes, const uint8_t* key_codes, int64_t stride, int64_t keys,
                       int64_t spaces, uint8_t* score) {
  HWY_DYNAMIC_DISPATCH(CountEqual)(codes, key_codes, stride, keys, spaces, score);
}

void count_equal_nibbles(const uint8_t* codes, const uint8_t* key_codes, int64_t stride,
                         int64_t keys, int64_t spaces, uint8_t* score) {
  std::fill_n(score, keys, uint8_t{1});
  for (int64_t s = 0; s < spaces; s += 2, key_codes += stride) {
    std::array<uint8_t, 256> equal;
    for (size_t byte = 0; byte < 256; ++byte)
      equal[byte] = static_cast<uint8_t>((byte % 16 == codes[s]) +
                                         (s + 1 < spaces && byte / 16 == codes[s + 1]));
    for (int64_t j = 0; j < keys; ++j) score[j] += equal[key_codes[j]];
  }
}

int64_t take_keys(uint8_t* score, int64_t keys, int64_t self, const uint8_t* usable,
                  const CodeSearch& search, int32_t* places) {
  if (keys <= search.most && !usable) {
    for (int64_t j = 0; j < keys; ++j) places[j] = static_cast<int32_t>(j);
    return keys;
  }
  into_slots(search, keys, self, usable, score);
  std::array<int64_t, 256> number{};
  for (int64_t j = 0; j < keys; ++j) ++number[score[j]];
  // The least score of which all are taken, and how many of the next one below.
  int64_t room = search.most;
  int least = 256;
  while (least > 1 && number[static_cast<size_t>(least - 1)] <= room)
    room -= number[static_cast<size_t>(--least)];
  const int partly = least - 1;
  // Of those taken in part, where they begin or end.
  int64_t begin = 0, end = keys;
  if (partly > 0) {
    int64_t left = room;
    if (search.order == CodeOrder::exact) {
      for (begin = keys; left > 0; --begin) left -= score[begin - 1] == partly;
    } else {
      for (end = 0; left > 0; ++end) left -= score[end] == partly;
    }
  }
  int64_t count = 0;
  for (int64_t j = 0; j < keys; ++j)
    if (score[j] >= least || (partly > 0 && score[j] == partly && j >= begin && j < end))
      places[count++] = static_cast<int32_t>(j);
  return count;
}

}  // namespace cajal
#endif
