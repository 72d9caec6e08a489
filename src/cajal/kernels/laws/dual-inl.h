// Included inside a namespace, once for every kind of number: numbers that carry their derivatives
// along, so that a law needs no second formula. No include guard on purpose.

/// A value and its derivatives by K variables.
template <class N, int K>
struct Dual {
  N v;
  N d[K];
};

/// f(a), given f(a.v) and f'(a.v).
template <class N, int K>
LAW_INLINE Dual<N, K> Chain(const Dual<N, K>& a, const N& value, const N& slope) {
  Dual<N, K> out;
  out.v = value;
  for (int k = 0; k < K; ++k) out.d[k] = slope * a.d[k];
  return out;
}

template <class N, int K>
LAW_INLINE Dual<N, K> operator+(const Dual<N, K>& a, const Dual<N, K>& b) {
  Dual<N, K> out;
  out.v = a.v + b.v;
  for (int k = 0; k < K; ++k) out.d[k] = a.d[k] + b.d[k];
  return out;
}
template <class N, int K>
LAW_INLINE Dual<N, K> operator-(const Dual<N, K>& a, const Dual<N, K>& b) {
  Dual<N, K> out;
  out.v = a.v - b.v;
  for (int k = 0; k < K; ++k) out.d[k] = a.d[k] - b.d[k];
  return out;
}
template <class N, int K>
LAW_INLINE Dual<N, K> operator*(const Dual<N, K>& a, const Dual<N, K>& b) {
  Dual<N, K> out;
  out.v = a.v * b.v;
  for (int k = 0; k < K; ++k) out.d[k] = a.d[k] * b.v + a.v * b.d[k];
  return out;
}
template <class N, int K>
LAW_INLINE Dual<N, K> operator/(const Dual<N, K>& a, const Dual<N, K>& b) {
  Dual<N, K> out;
  const N inverse = 1.0 / b.v;
  out.v = a.v * inverse;
  for (int k = 0; k < K; ++k) out.d[k] = (a.d[k] - out.v * b.d[k]) * inverse;
  return out;
}

template <class N, int K>
LAW_INLINE Dual<N, K> operator+(const Dual<N, K>& a, double b) {
  Dual<N, K> out = a;
  out.v = a.v + b;
  return out;
}
template <class N, int K>
LAW_INLINE Dual<N, K> operator-(const Dual<N, K>& a, double b) {
  return a + -b;
}
template <class N, int K>
LAW_INLINE Dual<N, K> operator*(const Dual<N, K>& a, double b) {
  Dual<N, K> out;
  out.v = a.v * b;
  for (int k = 0; k < K; ++k) out.d[k] = a.d[k] * b;
  return out;
}
template <class N, int K>
LAW_INLINE Dual<N, K> operator*(double a, const Dual<N, K>& b) {
  return b * a;
}
template <class N, int K>
LAW_INLINE Dual<N, K> operator-(double a, const Dual<N, K>& b) {
  return b * -1.0 + a;
}
template <class N, int K>
LAW_INLINE Dual<N, K> operator/(double a, const Dual<N, K>& b) {
  const N inverse = 1.0 / b.v;
  return Chain(b, a * inverse, (-a * inverse) * inverse);
}

template <class N, int K>
LAW_INLINE Dual<N, K> Exp(const Dual<N, K>& a) {
  const N e = Exp(a.v);
  return Chain(a, e, e);
}
template <class N, int K>
LAW_INLINE Dual<N, K> Expm1(const Dual<N, K>& a) {
  const N e = Expm1(a.v);
  return Chain(a, e, e + 1.0);
}
template <class N, int K>
LAW_INLINE Dual<N, K> Log(const Dual<N, K>& a) {
  return Chain(a, Log(a.v), 1.0 / a.v);
}
template <class N, int K>
LAW_INLINE Dual<N, K> Log1p(const Dual<N, K>& a) {
  return Chain(a, Log1p(a.v), 1.0 / (a.v + 1.0));
}
template <class N, int K>
LAW_INLINE Dual<N, K> Sqrt(const Dual<N, K>& a) {
  const N root = Sqrt(a.v);
  return Chain(a, root, 0.5 / root);
}
template <class N, int K>
LAW_INLINE Dual<N, K> Tanh(const Dual<N, K>& a) {
  const N t = Tanh(a.v);
  return Chain(a, t, 1.0 - t * t);
}
template <class N, int K>
LAW_INLINE Dual<N, K> Sigmoid(const Dual<N, K>& a) {
  const N s = Sigmoid(a.v);
  return Chain(a, s, s * (1.0 - s));
}
template <class N, int K>
LAW_INLINE Dual<N, K> Softplus(const Dual<N, K>& a) {
  return Chain(a, Softplus(a.v), Sigmoid(a.v));
}
template <class N, int K>
LAW_INLINE Dual<N, K> NormalCdf(const Dual<N, K>& a) {
  return Chain(a, NormalCdf(a.v), Exp(a.v * a.v * -0.5) * 0.3989422804014327);
}
template <class N, int K>
LAW_INLINE Dual<N, K> Erf(const Dual<N, K>& a) {
  return Chain(a, Erf(a.v), Exp(a.v * a.v * -1.0) * 1.1283791670955126);
}
template <class N, int K>
LAW_INLINE Dual<N, K> Sin(const Dual<N, K>& a) {
  return Chain(a, Sin(a.v), Cos(a.v));
}
template <class N, int K>
LAW_INLINE Dual<N, K> Cos(const Dual<N, K>& a) {
  return Chain(a, Cos(a.v), Sin(a.v) * -1.0);
}
template <class N, int K>
LAW_INLINE Dual<N, K> Atan(const Dual<N, K>& a) {
  return Chain(a, Atan(a.v), 1.0 / (a.v * a.v + 1.0));
}
template <class N, int K>
LAW_INLINE Dual<N, K> Positive(const Dual<N, K>& which, const Dual<N, K>& yes,
                               const Dual<N, K>& no) {
  Dual<N, K> out;
  out.v = Positive(which.v, yes.v, no.v);
  for (int k = 0; k < K; ++k) out.d[k] = Positive(which.v, yes.d[k], no.d[k]);
  return out;
}
template <class N, int K>
LAW_INLINE Dual<N, K> Constant(const Dual<N, K>& like, double value) {
  Dual<N, K> out;
  out.v = Constant(like.v, value);
  for (int k = 0; k < K; ++k) out.d[k] = Constant(like.v, 0.0);
  return out;
}

// What follows holds for every kind of number.

template <class N>
LAW_INLINE N Abs(const N& x) {  // derivative 0 at 0
  return Positive(x, x, Positive(x * -1.0, x * -1.0, Constant(x, 0.0)));
}
template <class N>
LAW_INLINE N Relu(const N& x) {
  return Positive(x, x, Constant(x, 0.0));
}
template <class N>
LAW_INLINE N AtMost(const N& x, double limit) {
  return Positive(x - limit, Constant(x, limit), x);
}
template <class N>
LAW_INLINE N AtLeast(const N& x, double limit) {
  return Positive(x - limit, x, Constant(x, limit));
}
