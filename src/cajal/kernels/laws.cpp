#include "cajal/kernels/laws.h"

#include <cmath>
#include <iterator>

#include "cajal/core/registry.h"

namespace cajal::laws {
namespace {
/// Double as a number of the laws: the reference that the vector form is tested against, and what
/// gradient checks run on.
namespace scalar {

inline double Constant(double, double value) { return value; }
inline double Positive(double which, double yes, double no) { return which > 0 ? yes : no; }
inline double Exp(double a) { return std::exp(std::min(a, 709.0)); }
inline double Expm1(double a) { return std::expm1(std::min(a, 709.0)); }
inline double Log(double a) { return std::log(a); }
inline double Log1p(double a) { return std::log1p(a); }
inline double Sqrt(double a) { return std::sqrt(a); }
inline double Tanh(double a) { return std::tanh(a); }
inline double Sin(double a) { return std::sin(a); }
inline double Cos(double a) { return std::cos(a); }
inline double Atan(double a) { return std::atan(a); }
inline double Erf(double a) { return std::erf(a); }
inline double NormalCdf(double a) { return 0.5 * std::erfc(-a * M_SQRT1_2); }
inline double Sigmoid(double a) {
  const double e = std::exp(-std::abs(a));
  return (a > 0 ? 1 : e) / (1 + e);
}
inline double Softplus(double a) { return std::max(a, 0.0) + std::log1p(std::exp(-std::abs(a))); }

#include "cajal/kernels/laws/every-inl.h"

template <class L>
void Forward(Sharing sharing, const double* x, int64_t count, const double* parameters, double* y) {
  constexpr int n = ParameterCount<L>();
  double p[n == 0 ? 1 : n];
  const int64_t stride = sharing == Sharing::columns ? count : 1;
  for (int64_t i = 0; i < count; ++i) {
    for (int k = 0; k < n; ++k)
      p[k] = parameters[k * stride + (sharing == Sharing::columns ? i : 0)];
    y[i] = L::Value(x[i], p);
  }
}

template <class L>
void Backward(Sharing sharing, const double* x, const double* dy, int64_t count,
              const double* parameters, double* dx, double* by_parameter) {
  constexpr int n = ParameterCount<L>();
  double p[n == 0 ? 1 : n];
  const int64_t stride = sharing == Sharing::columns ? count : 1;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t column = sharing == Sharing::columns ? i : 0;
    for (int k = 0; k < n; ++k) p[k] = parameters[k * stride + column];
    const auto y = Differentiated<L>(x[i], p);
    dx[i] = dy[i] * y.d[0];
    for (int k = 0; k < LearnedCount<L>(); ++k)
      by_parameter[k * stride + column] += dy[i] * y.d[k + 1];
  }
}

template <class... L>
std::vector<Law> Table(Laws<L...>) {
  std::vector<Law> table;
  const auto add = [&]<class One>() {
    Law law{One::kFacts.name,
            One::kFacts.family,
            One::kFacts.formula,
            One::kFacts.source,
            {},
            LearnedCount<One>(),
            static_cast<int>(table.size())};
    if constexpr (ParameterCount<One>() > 0)
      law.parameters.assign(std::begin(One::kParameters), std::end(One::kParameters));
    table.push_back(law);
  };
  (add.template operator()<L>(), ...);
  return table;
}

template <class... L>
void ForwardAny(Laws<L...>, int law, Sharing sharing, const double* x, int64_t count,
                const double* parameters, double* y) {
  static constexpr decltype(&Forward<Identity>) kTable[] = {&Forward<L>...};
  kTable[law](sharing, x, count, parameters, y);
}
template <class... L>
void BackwardAny(Laws<L...>, int law, Sharing sharing, const double* x, const double* dy,
                 int64_t count, const double* parameters, double* dx, double* by_parameter) {
  static constexpr decltype(&Backward<Identity>) kTable[] = {&Backward<L>...};
  kTable[law](sharing, x, dy, count, parameters, dx, by_parameter);
}

}  // namespace scalar
}  // namespace

std::span<const Law> all() {
  static const std::vector<Law> table = scalar::Table(scalar::EveryLaw{});
  return table;
}

const Law* find(std::string_view name) {
  for (const auto& law : all())
    if (name == law.name) return &law;
  return nullptr;
}

const Law& at(std::string_view name) {
  if (const auto* law = find(name)) return *law;
  std::vector<std::string_view> names;
  for (const auto& law : all()) names.emplace_back(law.name);
  fail("no activation is called '{}'{}", name, did_you_mean(name, names));
}

void forward(const Law& law, Sharing sharing, const double* x, int64_t count,
             const double* parameters, double* y) {
  scalar::ForwardAny(scalar::EveryLaw{}, law.index, sharing, x, count, parameters, y);
}

void backward(const Law& law, Sharing sharing, const double* x, const double* dy, int64_t count,
              const double* parameters, double* dx, double* by_parameter) {
  scalar::BackwardAny(scalar::EveryLaw{}, law.index, sharing, x, dy, count, parameters, dx,
                      by_parameter);
}

}  // namespace cajal::laws
