// The laws of neurons on vectors of floats, for whichever instruction set is being compiled.
// Include after <hwy/highway.h>; compiled once for each target.
#if defined(CAJAL_KERNELS_LAW_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CAJAL_KERNELS_LAW_INL_H_
#undef CAJAL_KERNELS_LAW_INL_H_
#else
#define CAJAL_KERNELS_LAW_INL_H_
#endif

#include "cajal/kernels/law.h"

HWY_BEFORE_NAMESPACE();
namespace cajal {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// exp(x) to 2 ulp; 0 below -87.3, the largest power that fits above 88.3, NaN stays.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V Exp(D d, V x) {
  const hn::RebindToSigned<D> di;
  const auto lowest = hn::Set(d, -87.3f), highest = hn::Set(d, 88.3f);
  const auto small = hn::Lt(x, lowest);
  auto clamped = hn::IfThenElse(small, lowest, x);
  clamped = hn::IfThenElse(hn::Gt(clamped, highest), highest, clamped);
  // x = n log 2 + r with |r| <= log(2) / 2, log 2 in two parts so that r is exact.
  const auto n = hn::Round(hn::Mul(clamped, hn::Set(d, 1.44269504f)));
  auto r = hn::NegMulAdd(n, hn::Set(d, 0.693359375f), clamped);
  r = hn::NegMulAdd(n, hn::Set(d, -2.12194440e-4f), r);
  auto p = hn::Set(d, 1.9875691500e-4f);  // minimax polynomial of Cephes' expf
  p = hn::MulAdd(p, r, hn::Set(d, 1.3981999507e-3f));
  p = hn::MulAdd(p, r, hn::Set(d, 8.3334519073e-3f));
  p = hn::MulAdd(p, r, hn::Set(d, 4.1665795894e-2f));
  p = hn::MulAdd(p, r, hn::Set(d, 1.6666665459e-1f));
  p = hn::MulAdd(p, r, hn::Set(d, 5.0000001201e-1f));
  p = hn::MulAdd(p, hn::Mul(r, r), hn::Add(r, hn::Set(d, 1.0f)));
  const auto power = hn::ShiftLeft<23>(hn::Add(hn::ConvertTo(di, n), hn::Set(di, 127)));
  return hn::IfThenZeroElse(small, hn::Mul(p, hn::BitCast(d, power)));
}

/// 1 / (1 + exp(-x)) by an estimate and a step of Newton's: a division takes as long as exp.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V Sigmoid(D d, V x) {
  const auto below = hn::Add(hn::Set(d, 1.0f), Exp(d, hn::Neg(x)));
  const auto estimate = hn::ApproximateReciprocal(below);
  return hn::Mul(estimate, hn::NegMulAdd(below, estimate, hn::Set(d, 2.0f)));
}

/// By the exponential, and near zero (where that cancels) by the polynomial of Cephes' tanhf.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V Tanh(D d, V x) {
  const auto one = hn::Set(d, 1.0f), two = hn::Set(d, 2.0f);
  const auto size = hn::Abs(x), square = hn::Mul(x, x);
  const auto far = hn::Sub(one, hn::Div(two, hn::Add(Exp(d, hn::Mul(two, size)), one)));
  auto p = hn::Set(d, -5.70498872745e-3f);
  p = hn::MulAdd(p, square, hn::Set(d, 2.06390887954e-2f));
  p = hn::MulAdd(p, square, hn::Set(d, -5.37397155531e-2f));
  p = hn::MulAdd(p, square, hn::Set(d, 1.33314422036e-1f));
  p = hn::MulAdd(p, square, hn::Set(d, -3.33332819422e-1f));
  const auto near = hn::MulAdd(hn::Mul(p, square), x, x);
  return hn::IfThenElse(hn::Lt(size, hn::Set(d, 0.625f)), near, hn::CopySign(far, x));
}

/// Φ(x), the normal distribution, to 1.2e-7: Abramowitz and Stegun 7.1.26.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V NormalDistribution(D d, V x) {
  const auto one = hn::Set(d, 1.0f);
  const auto z = hn::Mul(hn::Abs(x), hn::Set(d, 0.70710678f));
  const auto t = hn::Div(one, hn::MulAdd(z, hn::Set(d, 0.3275911f), one));
  auto p = hn::Set(d, 1.061405429f);
  p = hn::MulAdd(p, t, hn::Set(d, -1.453152027f));
  p = hn::MulAdd(p, t, hn::Set(d, 1.421413741f));
  p = hn::MulAdd(p, t, hn::Set(d, -0.284496736f));
  p = hn::MulAdd(p, t, hn::Set(d, 0.254829592f));
  const auto tail = hn::Mul(hn::Mul(p, t), Exp(d, hn::Neg(hn::Mul(z, z))));  // 1 - erf(z)
  const auto half = hn::Mul(tail, hn::Set(d, 0.5f));
  return hn::IfThenElse(hn::Lt(x, hn::Zero(d)), half, hn::Sub(one, half));
}

/// exp(x) - 1 for x <= 0: near zero its series, which does not cancel.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V ExpLessOne(D d, V x) {
  const auto one = hn::Set(d, 1.0f);
  auto p = hn::Set(d, 1.0f / 5040);
  for (const float c : {1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f})
    p = hn::MulAdd(p, x, hn::Set(d, c));
  return hn::IfThenElse(hn::Gt(x, hn::Set(d, -0.4f)), hn::Mul(p, x), hn::Sub(Exp(d, x), one));
}

/// log(1 + exp(x)) = max(x, 0) + log(1 + z), z = exp(-|x|), by the series of atanh(z / (2 + z)).
template <class D, class V = hn::Vec<D>>
HWY_INLINE V Softplus(D d, V x) {
  const auto z = Exp(d, hn::Neg(hn::Abs(x)));
  const auto s = hn::Div(z, hn::Add(z, hn::Set(d, 2.0f))), square = hn::Mul(s, s);
  auto p = hn::Set(d, 2.0f / 13);
  for (const float c : {2.0f / 11, 2.0f / 9, 2.0f / 7, 2.0f / 5, 2.0f / 3, 2.0f})
    p = hn::MulAdd(p, square, hn::Set(d, c));
  return hn::MulAdd(p, s, hn::IfThenElse(hn::Lt(x, hn::Zero(d)), hn::Zero(d), x));
}

/// x tanh(log(1 + exp(x))) = x (1 - 2 / (1 + (1 + exp(x))²)), written so that nothing cancels.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V Mish(D d, V x) {
  const auto far = hn::Set(d, 20.0f), two = hn::Set(d, 2.0f);
  const auto e = Exp(d, hn::IfThenElse(hn::Gt(x, far), far, x));
  const auto n = hn::Mul(e, hn::Add(e, two));
  return hn::IfThenElse(hn::Gt(x, far), x, hn::Mul(x, hn::Div(n, hn::Add(n, two))));
}

/// x between two bounds; NaN stays.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V Between(D d, V x, float low, float high) {
  const auto l = hn::Set(d, low), h = hn::Set(d, high);
  return hn::IfThenElse(hn::Lt(x, l), l, hn::IfThenElse(hn::Gt(x, h), h, x));
}

/// law(x), the law chosen at compile time.
template <Law law, class D, class V = hn::Vec<D>>
HWY_INLINE V Apply(D d, V x) {
  const auto zero = hn::Zero(d);
  const auto negative = hn::Lt(x, zero);
  const auto positive_part = hn::IfThenElse(negative, zero, x);  // NaN stays
  const auto times = [&](V v, float factor) HWY_ATTR { return hn::Mul(v, hn::Set(d, factor)); };
  const auto hard_sigmoid = [&] HWY_ATTR {
    return times(Between(d, hn::Add(x, hn::Set(d, 3.0f)), 0, 6), 1.0f / 6);
  };
  if constexpr (law == Law::identity) return x;
  if constexpr (law == Law::relu) return positive_part;
  if constexpr (law == Law::relu2) return hn::Mul(positive_part, positive_part);
  if constexpr (law == Law::relu6) return Between(d, x, 0, 6);
  if constexpr (law == Law::leaky_relu) return hn::IfThenElse(negative, times(x, 0.01f), x);
  if constexpr (law == Law::elu) return hn::IfThenElse(negative, ExpLessOne(d, x), x);
  if constexpr (law == Law::selu)
    return hn::IfThenElse(negative, times(ExpLessOne(d, x), 1.7580993408473766f),
                          times(x, 1.0507009873554805f));
  if constexpr (law == Law::gelu) return hn::Mul(x, NormalDistribution(d, x));
  if constexpr (law == Law::gelu_tanh) {
    // (1 + tanh(u)) / 2 = sigmoid(2 u)
    const auto cube = hn::Mul(hn::Mul(x, x), x);
    const auto u = hn::MulAdd(cube, hn::Set(d, 0.044715f), x);
    return hn::Mul(x, Sigmoid(d, times(u, 1.59576912f)));
  }
  if constexpr (law == Law::quick_gelu) return hn::Mul(x, Sigmoid(d, times(x, 1.702f)));
  if constexpr (law == Law::silu) return hn::Mul(x, Sigmoid(d, x));
  if constexpr (law == Law::mish) return Mish(d, x);
  if constexpr (law == Law::softplus) return Softplus(d, x);
  if constexpr (law == Law::softsign) return hn::Div(x, hn::Add(hn::Abs(x), hn::Set(d, 1.0f)));
  if constexpr (law == Law::sigmoid) return Sigmoid(d, x);
  if constexpr (law == Law::tanh) return Tanh(d, x);
  if constexpr (law == Law::hard_tanh) return Between(d, x, -1, 1);
  if constexpr (law == Law::hard_sigmoid) return hard_sigmoid();
  if constexpr (law == Law::hard_swish) return hn::Mul(x, hard_sigmoid());
}

/// Calls visit with the constant that `law` is.
template <class Visit>
HWY_INLINE void WithLaw(Law law, const Visit& visit) {
  switch (law) {
#define CAJAL_CASE(of) \
  case Law::of:        \
    return visit(std::integral_constant<Law, Law::of>());
    CAJAL_CASE(identity)
    CAJAL_CASE(relu)
    CAJAL_CASE(relu2)
    CAJAL_CASE(relu6)
    CAJAL_CASE(leaky_relu)
    CAJAL_CASE(elu)
    CAJAL_CASE(selu)
    CAJAL_CASE(gelu)
    CAJAL_CASE(gelu_tanh)
    CAJAL_CASE(quick_gelu)
    CAJAL_CASE(silu)
    CAJAL_CASE(mish)
    CAJAL_CASE(softplus)
    CAJAL_CASE(softsign)
    CAJAL_CASE(sigmoid)
    CAJAL_CASE(tanh)
    CAJAL_CASE(hard_tanh)
    CAJAL_CASE(hard_sigmoid)
    CAJAL_CASE(hard_swish)
#undef CAJAL_CASE
    default:
      fail("feed-forward kernels do not have the law {}", to_name(law));
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace cajal
HWY_AFTER_NAMESPACE();
#endif
