#include "cajal/kernels/laws.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <map>
#include <set>
#include <string>

#include "cajal/core/error.h"

namespace cajal::laws {
namespace {

// The formulas once more, as the literature writes them, in long double.
using Real = long double;
using Formula = std::function<Real(Real x, const Real* p)>;

Real s(Real x) { return 1 / (1 + std::exp(-x)); }
Real sp(Real x) { return x > 40 ? x + std::exp(-x) : std::log1p(std::exp(x)); }
Real relu(Real x) { return x > 0 ? x : 0; }
Real clip(Real x, Real low, Real high) { return std::min(std::max(x, low), high); }
Real phi(Real x) { return std::erfc(-x / std::sqrt(2.0L)) / 2; }
Real pau(Real x, const Real* p, bool terms) {
  Real top = 0, sum = 0, absolute = 0;
  for (int j = 0; j <= 5; ++j) top += p[j] * std::pow(x, j);
  for (int k = 1; k <= 4; ++k) {
    const Real term = p[5 + k] * std::pow(x, k);
    sum += term, absolute += std::abs(term);
  }
  return top / (1 + (terms ? absolute : std::abs(sum)));
}

const std::map<std::string, Formula> kFormulas = {
    {"identity", [](Real x, auto) { return x; }},
    {"sigmoid", [](Real x, auto) { return s(x); }},
    {"tanh", [](Real x, auto) { return std::tanh(x); }},
    {"elliott", [](Real x, auto) { return 0.5L * x / (1 + std::abs(x)) + 0.5L; }},
    {"scaled_tanh", [](Real x, auto p) { return p[0] * std::tanh(p[1] * x); }},
    {"parametric_sigmoid", [](Real x, auto p) { return std::pow(s(x), p[0]); }},
    {"scaled_sigmoid", [](Real x, auto) { return 4 * s(x) - 2; }},
    {"penalized_tanh", [](Real x, auto p) { return (x > 0 ? 1 : p[0]) * std::tanh(x); }},
    {"resech", [](Real x, auto) { return x / std::cosh(x); }},
    {"improved_sigmoid",
     [](Real x, auto p) {
       return x >= p[0]    ? p[1] * (x - p[0]) + s(p[0])
              : x <= -p[0] ? p[1] * (x + p[0]) + s(-p[0])
                           : s(x);
     }},
    {"hexpo",
     [](Real x, auto p) {
       return x >= 0 ? -p[0] * std::expm1(-x / p[1]) : p[2] * std::expm1(x / p[3]);
     }},
    {"silu", [](Real x, auto) { return x * s(x); }},
    {"dsilu", [](Real x, auto) { return s(x) * (1 + x * s(-x)); }},
    {"hard_sigmoid", [](Real x, auto) { return clip(x + 3, 0, 6) / 6; }},
    {"hard_tanh", [](Real x, auto) { return clip(x, -1, 1); }},
    {"softsign", [](Real x, auto) { return x / (1 + std::abs(x)); }},
    {"rootsig", [](Real x, auto) { return x / (1 + std::abs(x)); }},
    {"arctan", [](Real x, auto) { return std::atan(x); }},
    {"srs", [](Real x, auto p) { return x / (x / p[0] + std::exp(-x / p[1])); }},
    {"srs_guarded",
     [](Real x, auto p) {
       return x / (0.01L + x / (std::abs(p[0]) + 0.01L) + std::exp(-x / (std::abs(p[1]) + 0.01L)));
     }},
    {"relu", [](Real x, auto) { return relu(x); }},
    {"relu2", [](Real x, auto) { return relu(x) * relu(x); }},
    {"repu", [](Real x, auto p) { return std::pow(relu(x), p[0]); }},
    {"relu6", [](Real x, auto) { return clip(x, 0, 6); }},
    {"leaky_relu", [](Real x, auto p) { return x > 0 ? x : p[0] * x; }},
    {"prelu", [](Real x, auto p) { return x > 0 ? x : p[0] * x; }},
    {"bounded_relu", [](Real x, auto p) { return clip(x, 0, p[0]); }},
    {"bounded_leaky_relu",
     [](Real x, auto p) { return x > p[0] ? p[0] + p[1] * (x - p[0])
                                 : x > 0  ? x
                                          : p[1] * x; }},
    {"ptelu", [](Real x, auto p) { return x >= 0 ? x : p[0] * std::tanh(p[1] * x); }},
    {"frelu", [](Real x, auto p) { return relu(x) + p[0]; }},
    {"disrelu", [](Real x, auto p) { return std::max(x, -p[0]); }},
    {"nlrelu", [](Real x, auto p) { return std::log1p(p[0] * relu(x)); }},
    {"slu", [](Real x, auto) { return x >= 0 ? x : 2 * std::log((std::exp(x) + 1) / 2); }},
    {"resp", [](Real x, auto p) { return x > 0 ? p[0] * x + std::log(2.0L) : sp(x); }},
    {"vrelu", [](Real x, auto) { return std::abs(x); }},
    {"ftswish", [](Real x, auto p) { return relu(x) * s(x) + p[0]; }},
    {"s_relu",
     [](Real x, auto p) {
       return x >= p[0] ? p[0] + p[1] * (x - p[0]) : x <= p[2] ? p[2] + p[3] * (x - p[2]) : x;
     }},
    {"elu", [](Real x, auto p) { return x > 0 ? x : p[0] * std::expm1(x); }},
    {"selu",
     [](Real x, auto) {
       return 1.0507009873554805L * (x > 0 ? x : 1.6732632423543772L * std::expm1(x));
     }},
    {"celu", [](Real x, auto p) { return relu(x) + std::min(0.0L, p[0] * std::expm1(x / p[0])); }},
    {"pelu", [](Real x, auto p) { return x >= 0 ? p[0] / p[1] * x : p[0] * std::expm1(x / p[1]); }},
    {"mpelu", [](Real x, auto p) { return x > 0 ? x : p[0] * std::expm1(p[1] * x); }},
    {"felu", [](Real x, auto p) { return x > 0 ? x : p[0] * (std::exp2(x / std::log(2.0L)) - 1); }},
    {"pdelu",
     [](Real x, auto p) {
       return x > 0 ? x : p[0] * (std::pow(relu(1 + (1 - p[1]) * x), 1 / (1 - p[1])) - 1);
     }},
    {"preu", [](Real x, auto p) { return p[0] * x * (x >= 0 ? 1 : std::exp(p[1] * x)); }},
    {"softplus", [](Real x, auto) { return sp(x); }},
    {"parametric_softplus", [](Real x, auto p) { return p[0] * (sp(x) - p[1]); }},
    {"swish", [](Real x, auto p) { return x * s(p[0] * x); }},
    {"eswish", [](Real x, auto p) { return p[0] * x * s(x); }},
    {"quick_gelu", [](Real x, auto) { return x * s(1.702L * x); }},
    {"hard_swish", [](Real x, auto) { return x * clip(x + 3, 0, 6) / 6; }},
    {"gelu", [](Real x, auto) { return x * phi(x); }},
    {"gelu_tanh",
     [](Real x, auto) {
       return x * s(2 * std::sqrt(2 / std::acos(-1.0L)) * (x + 0.044715L * x * x * x));
     }},
    {"sgelu", [](Real x, auto p) { return p[0] * x * std::erf(x / std::sqrt(2.0L)); }},
    {"mish", [](Real x, auto) { return x * std::tanh(sp(x)); }},
    {"lisht", [](Real x, auto) { return x * std::tanh(x); }},
    {"tanhexp", [](Real x, auto) { return x * std::tanh(std::exp(x)); }},
    {"colu", [](Real x, auto) { return x / (1 - x * std::exp(-(x + std::exp(x)))); }},
    {"pflu", [](Real x, auto) { return x * (1 + x / std::sqrt(1 + x * x)) / 2; }},
    {"fpflu", [](Real x, auto) { return x > 0 ? x : x + x * x / std::sqrt(1 + x * x); }},
    {"gcu", [](Real x, auto) { return x * std::cos(x); }},
    {"sine", [](Real x, auto) { return std::sin(x); }},
    {"pau", [](Real x, auto p) { return pau(x, p, false); }},
    {"pau_terms", [](Real x, auto p) { return pau(x, p, true); }},
};

/// Start values, and a second set that tells the parameters apart.
std::vector<std::vector<double>> settings(const Law& law) {
  std::vector<double> start, other;
  for (const auto& parameter : law.parameters) {
    start.push_back(parameter.start);
    other.push_back(parameter.start * (1.1 + 0.07 * static_cast<double>(start.size())));
  }
  if (std::string_view(law.name) == "pdelu") other[1] = 0.85;  // t < 1
  if (start.empty()) return {start};
  return {start, other};
}

Real reference(const Law& law, Real x, const std::vector<double>& p) {
  const std::vector<Real> wide(p.begin(), p.end());
  return kFormulas.at(law.name)(x, wide.data());
}

std::vector<double> grid(double end, int points) {
  std::vector<double> x;
  for (int i = 0; i < points; ++i) x.push_back(-end + 2 * end * i / (points - 1));
  return x;
}

/// One-sided differences of second order from either side.
std::pair<Real, Real> slopes(const std::function<Real(Real)>& f, Real x) {
  const Real h = 1e-5L;
  const Real right = (-3 * f(x) + 4 * f(x + h) - f(x + 2 * h)) / (2 * h);
  const Real left = (3 * f(x) - 4 * f(x - h) + f(x - 2 * h)) / (2 * h);
  return {left, right};
}

/// The size below which a value of the law is the difference of larger ones: no float form can keep
/// its relative precision there.
double cancels_below(std::string_view name) {
  if (name.starts_with("pau")) return 1;
  return name == "dsilu" || name == "improved_sigmoid" || name == "parametric_softplus" ? 0.1
                                                                                        : 1e-3;
}

TEST(Laws, EveryLawHasItsFormulaHere) {
  for (const auto& law : all()) EXPECT_TRUE(kFormulas.contains(law.name)) << law.name;
  EXPECT_EQ(all().size(), kFormulas.size());
}

TEST(Laws, InDoubleEqualTheirFormula) {
  for (const auto& law : all())
    for (const auto& p : settings(law))
      for (const double x : grid(30, 1201)) {
        double y = 0;
        forward(law, Sharing::all, &x, 1, p.data(), &y);
        const auto expected = static_cast<double>(reference(law, x, p));
        EXPECT_NEAR(y, expected, 1e-12 * std::max(1.0, std::abs(expected))) << law.name << " " << x;
      }
}

TEST(Laws, InFloatEqualTheirFormulaToTwoMillionths) {
  for (const auto& law : all())
    for (const auto& p : settings(law)) {
      const std::vector<float> narrow(p.begin(), p.end());
      const std::vector<double> rounded(narrow.begin(), narrow.end());
      const auto points = grid(30, 4801);
      const std::vector<float> x(points.begin(), points.end());
      std::vector<float> y(x.size());
      forward(law, Sharing::all, x.data(), static_cast<int64_t>(x.size()), narrow.data(), y.data());
      for (size_t i = 0; i < x.size(); ++i) {
        const auto expected = static_cast<double>(reference(law, x[i], rounded));
        EXPECT_NEAR(y[i], expected, 2e-6 * std::max(cancels_below(law.name), std::abs(expected)))
            << law.name << " " << x[i];
      }
    }
}

// At a kink the derivative must lie between those of the two sides.
TEST(Laws, TheSlopeIsThatOfTheFormulaOnTheGridAndAtKinks) {
  auto points = grid(20, 801);  // has 0, ±1, ±2, ±3 and 6: the kinks of the start values
  for (const double x : {-1e-3, 1e-3, 1.05, 0.3, -3.3, 1.38}) points.push_back(x);
  for (const auto& law : all())
    for (const auto& p : settings(law))
      for (const double x : points) {
        double dx = 0;
        const double one = 1;
        std::vector<double> by(law.parameters.size());
        backward(law, Sharing::all, &x, &one, 1, p.data(), &dx, by.data());
        const auto [left, right] = slopes([&](Real at) { return reference(law, at, p); }, x);
        const Real slack = 1e-6L * std::max(1.0L, std::abs(left));
        EXPECT_TRUE(dx >= std::min(left, right) - slack && dx <= std::max(left, right) + slack)
            << law.name << " at " << x << ": " << dx << " not in " << left << ", " << right;
      }
}

TEST(Laws, TheGradientByParametersIsThatOfTheFormula) {
  for (const auto& law : all())
    for (const auto& p : settings(law))
      for (const double x : grid(20, 161)) {
        double dx = 0;
        const double one = 1;
        std::vector<double> by(law.parameters.size());
        backward(law, Sharing::all, &x, &one, 1, p.data(), &dx, by.data());
        for (int k = 0; k < law.learned; ++k) {
          const auto shifted = [&](Real value) {
            std::vector<Real> wide(p.begin(), p.end());
            wide[k] = value;
            return kFormulas.at(law.name)(x, wide.data());
          };
          const auto [left, right] = slopes(shifted, p[k]);
          const Real slack = 1e-6L * std::max(1.0L, std::abs(left));
          EXPECT_TRUE(by[k] >= std::min(left, right) - slack &&
                      by[k] <= std::max(left, right) + slack)
              << law.name << " by " << law.parameters[k].name << " at " << x << ": " << by[k]
              << " not in " << left << ", " << right;
        }
      }
}

TEST(Laws, TheSlopeInFloatIsThatInDouble) {
  const auto points = grid(20, 1603);
  const std::vector<float> x(points.begin(), points.end()), ones(x.size(), 1.0f);
  const auto count = static_cast<int64_t>(x.size());
  const std::vector<double> wide(x.begin(), x.end()), wide_ones(x.size(), 1.0);
  for (const auto& law : all())
    for (const auto& p : settings(law)) {
      const std::vector<float> narrow(p.begin(), p.end());
      const std::vector<double> rounded(narrow.begin(), narrow.end());
      std::vector<float> dx(x.size());
      std::vector<double> expected(x.size()), by(p.size()), expected_by(p.size());
      backward(law, Sharing::all, x.data(), ones.data(), count, narrow.data(), dx.data(),
               by.data());
      backward(law, Sharing::all, wide.data(), wide_ones.data(), count, rounded.data(),
               expected.data(), expected_by.data());
      for (size_t i = 0; i < x.size(); ++i)
        EXPECT_NEAR(dx[i], expected[i], 1e-5 * std::max(1.0, std::abs(expected[i])))
            << law.name << " " << x[i];
      for (int k = 0; k < law.learned; ++k)
        EXPECT_NEAR(by[k], expected_by[k], 1e-3 * std::max(1.0, std::abs(expected_by[k])))
            << law.name << " by " << law.parameters[k].name;
    }
}

// The polynomials in PAU leave the range of float far out; everything else must stay finite.
TEST(Laws, FarOutNothingIsNaNOrInfinite) {
  for (const auto& law : all()) {
    if (std::string_view(law.name).starts_with("pau")) continue;
    for (const float x : {-1e4f, -1e3f, -104.0f, -88.0f, 88.0f, 104.0f, 1e3f, 1e4f}) {
      std::vector<float> p;
      for (const auto& parameter : law.parameters) p.push_back(static_cast<float>(parameter.start));
      float y = 0, dx = 0;
      const float one = 1;
      std::vector<double> by(p.size());
      forward(law, Sharing::all, &x, 1, p.data(), &y);
      backward(law, Sharing::all, &x, &one, 1, p.data(), &dx, by.data());
      EXPECT_TRUE(std::isfinite(y) && std::isfinite(dx)) << law.name << " " << x;
      for (const double g : by) EXPECT_TRUE(std::isfinite(g)) << law.name << " " << x;
    }
  }
}

TEST(Laws, AParameterAColumnIsTheSameAsOneRunAColumn) {
  constexpr int64_t columns = 37;  // whole vectors and a rest
  for (const auto& law : all()) {
    const int64_t n = static_cast<int64_t>(law.parameters.size());
    if (n == 0) continue;
    std::vector<float> x, dy, p, y(columns), dx(columns);
    std::vector<double> by(n * columns);
    for (int64_t i = 0; i < columns; ++i) x.push_back(0.37f * (i - 18)), dy.push_back(0.1f * i - 1);
    for (int64_t k = 0; k < n; ++k)
      for (int64_t i = 0; i < columns; ++i)
        p.push_back(static_cast<float>(law.parameters[k].start * (1 + 0.002 * i)));
    forward(law, Sharing::columns, x.data(), columns, p.data(), y.data());
    backward(law, Sharing::columns, x.data(), dy.data(), columns, p.data(), dx.data(), by.data());
    for (int64_t i = 0; i < columns; ++i) {
      std::vector<float> own(n);
      std::vector<double> own_by(n);
      for (int64_t k = 0; k < n; ++k) own[k] = p[k * columns + i];
      float own_y = 0, own_dx = 0;
      forward(law, Sharing::all, &x[i], 1, own.data(), &own_y);
      backward(law, Sharing::all, &x[i], &dy[i], 1, own.data(), &own_dx, own_by.data());
      EXPECT_NEAR(y[i], own_y, 1e-6 * std::max(1.0f, std::abs(own_y))) << law.name;
      EXPECT_NEAR(dx[i], own_dx, 1e-5 * std::max(1.0f, std::abs(own_dx))) << law.name;
      for (int k = 0; k < law.learned; ++k)
        EXPECT_NEAR(by[k * columns + i], own_by[k], 1e-5 * std::max(1.0, std::abs(own_by[k])))
            << law.name;
    }
  }
}

TEST(Laws, AnUnknownNameNamesTheNearest) {
  try {
    at("mich");
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("did you mean 'mish'"), std::string::npos);
  }
}

// The official PDELU zeroes its input in place first and so computes ReLU.
TEST(Laws, PdeluIsNotRelu) {
  const double x = -1, p[] = {1, 0.9};
  double y = 0;
  forward(at("pdelu"), Sharing::all, &x, 1, p, &y);
  EXPECT_NEAR(y, std::pow(0.9, 10) - 1, 1e-12);
}

}  // namespace
}  // namespace cajal::laws
