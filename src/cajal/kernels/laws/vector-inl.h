// Included inside HWY_NAMESPACE: a vector of floats as a number.

namespace hn = hwy::HWY_NAMESPACE;
using Tag = hn::ScalableTag<float>;
using Vector = hn::Vec<Tag>;
#define LANE_INLINE inline __attribute__((always_inline))

struct Lane {
  Vector v;
};

LANE_INLINE Vector Fill(double value) { return hn::Set(Tag(), static_cast<float>(value)); }

LANE_INLINE Lane operator+(Lane a, Lane b) { return {hn::Add(a.v, b.v)}; }
LANE_INLINE Lane operator-(Lane a, Lane b) { return {hn::Sub(a.v, b.v)}; }
LANE_INLINE Lane operator*(Lane a, Lane b) { return {hn::Mul(a.v, b.v)}; }
LANE_INLINE Lane operator/(Lane a, Lane b) { return {hn::Div(a.v, b.v)}; }
LANE_INLINE Lane operator-(Lane a) { return {hn::Neg(a.v)}; }
LANE_INLINE Lane operator+(Lane a, double b) { return {hn::Add(a.v, Fill(b))}; }
LANE_INLINE Lane operator-(Lane a, double b) { return {hn::Sub(a.v, Fill(b))}; }
LANE_INLINE Lane operator-(double a, Lane b) { return {hn::Sub(Fill(a), b.v)}; }
LANE_INLINE Lane operator*(Lane a, double b) { return {hn::Mul(a.v, Fill(b))}; }
LANE_INLINE Lane operator*(double a, Lane b) { return b * a; }
LANE_INLINE Lane operator/(double a, Lane b) { return {hn::Div(Fill(a), b.v)}; }

LANE_INLINE Lane Constant(Lane, double value) { return {Fill(value)}; }
LANE_INLINE Lane Positive(Lane which, Lane yes, Lane no) {
  return {hn::IfThenElse(hn::Gt(which.v, hn::Zero(Tag())), yes.v, no.v)};
}

// Highway's exponentials are sound up to 104; floats end at 88.7.
LANE_INLINE Lane Exp(Lane a) { return {hn::Exp(Tag(), hn::Min(a.v, Fill(88.5)))}; }
LANE_INLINE Lane Expm1(Lane a) { return {hn::Expm1(Tag(), hn::Min(a.v, Fill(88.5)))}; }
LANE_INLINE Lane Log(Lane a) { return {hn::Log(Tag(), a.v)}; }
LANE_INLINE Lane Log1p(Lane a) { return {hn::Log1p(Tag(), a.v)}; }
LANE_INLINE Lane Sqrt(Lane a) { return {hn::Sqrt(a.v)}; }
LANE_INLINE Lane Tanh(Lane a) { return {hn::Tanh(Tag(), a.v)}; }
LANE_INLINE Lane Sin(Lane a) { return {hn::Sin(Tag(), a.v)}; }
LANE_INLINE Lane Cos(Lane a) { return {hn::Cos(Tag(), a.v)}; }
LANE_INLINE Lane Atan(Lane a) { return {hn::Atan(Tag(), a.v)}; }

LANE_INLINE Lane Sigmoid(Lane a) {
  const Lane e = Exp({hn::Neg(hn::Abs(a.v))});
  return Positive(a, Constant(a, 1.0), e) / (e + 1.0);
}
LANE_INLINE Lane Softplus(Lane a) {
  return Lane{hn::Max(a.v, hn::Zero(Tag()))} + Log1p(Exp({hn::Neg(hn::Abs(a.v))}));
}

/// Φ, each tail to full relative precision: erfc by the Chebyshev fit of Numerical Recipes
/// (fractional error below 1.2e-7), the square in the exponent with its rounding error put back.
LANE_INLINE Lane NormalCdf(Lane a) {
  constexpr double c[] = {0.17087277,  -0.82215223, 1.48851587, -1.13520398, 0.27886807,
                          -0.18628806, 0.09678418,  0.37409196, 1.00002368};
  const Vector z = hn::Min(hn::Abs(a.v), Fill(14.5));
  const Lane t = 1.0 / (Lane{z} * 0.35355339059327373 + 1.0);
  Lane sum = Constant(a, c[0]);
  for (int i = 1; i < 9; ++i) sum = sum * t + c[i];
  const Vector square = hn::Mul(z, z), lost = hn::MulSub(z, z, square);
  const Lane e = Exp(Lane{square} * -0.5);
  const Lane tail = t * 0.5 * e * (1.0 - Lane{lost} * 0.5) * Exp(sum * t - 1.26551223);
  return Positive(a, 1.0 - tail, tail);
}

LANE_INLINE Lane Erf(Lane a) {
  const Lane s = a * a;
  const Lane near =
      a *
      (((((s * (1.0 / 9360) - 1.0 / 1320) * s + 1.0 / 216) * s - 1.0 / 42) * s + 0.1) * s * s -
       s * (1.0 / 3) + 1.0) *
      1.1283791670955126;
  const Lane far = NormalCdf(a * 1.4142135623730951) * 2.0 - 1.0;
  return Positive(s - 0.25, far, near);
}
#undef LANE_INLINE
