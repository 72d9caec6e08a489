// Included inside a namespace, once for every kind of number N, after the operations on it:
// + - * / also with double, Exp Expm1 Log Log1p Sqrt Tanh Sigmoid Softplus NormalCdf Erf Sin Cos
// Atan, Positive(which, yes, no) = yes where which > 0, and Constant(like, value).
// No include guard on purpose.

#define LAW_INLINE inline __attribute__((always_inline))
#define LAW(name, family, formula, source) \
  static constexpr Facts kFacts = {name, ::cajal::laws::Family::family, formula, source};
#define LAW_PARAMETERS(...) static constexpr ::cajal::laws::Parameter kParameters[] = {__VA_ARGS__};
#define LAW_VALUE    \
  template <class N> \
  LAW_INLINE static N Value([[maybe_unused]] const N& x, [[maybe_unused]] const N* p)

struct Facts {
  const char* name;
  ::cajal::laws::Family family;
  const char* formula;
  const char* source;
};

template <class... L>
struct Laws {};

template <class... A, class... B>
constexpr Laws<A..., B...> Join(Laws<A...>, Laws<B...>) {
  return {};
}

#include "cajal/kernels/laws/dual-inl.h"
// After the numbers that carry derivatives.
#include "cajal/kernels/laws/bounded-inl.h"
#include "cajal/kernels/laws/exponential-inl.h"
#include "cajal/kernels/laws/rectified-inl.h"

using EveryLaw =
    decltype(Join(Join(BoundedLaws{}, RectifiedLaws{}), Join(ExponentialLaws{}, AdaptiveLaws{})));

template <class L>
constexpr int ParameterCount() {
  if constexpr (requires { L::kParameters; }) {
    return std::size(L::kParameters);
  } else {
    return 0;
  }
}

template <class L>
constexpr int LearnedCount() {
  int count = 0;
  if constexpr (requires { L::kParameters; })
    for (const auto& parameter : L::kParameters) count += parameter.learned;
  return count;
}

/// x and the parameters as variables, x first; constants of the law have no derivative.
template <class L, class N>
LAW_INLINE Dual<N, LearnedCount<L>() + 1> Differentiated(const N& x, const N* p) {
  constexpr int variables = LearnedCount<L>() + 1, parameters = ParameterCount<L>();
  using D = Dual<N, variables>;
  const N zero = Constant(x, 0.0), one = Constant(x, 1.0);
  D variable, values[parameters == 0 ? 1 : parameters];
  variable.v = x;
  for (int k = 0; k < variables; ++k) variable.d[k] = k == 0 ? one : zero;
  for (int i = 0; i < parameters; ++i) {
    values[i].v = p[i];
    for (int k = 0; k < variables; ++k) values[i].d[k] = k == i + 1 ? one : zero;
  }
  return L::Value(variable, values);
}

#undef LAW
#undef LAW_PARAMETERS
#undef LAW_VALUE
