#include "cajal/math/polynomial.h"

#include <gtest/gtest.h>

#include "cajal/core/error.h"

namespace {
using namespace cajal;

// Of degree 1 the best one for x² is 1/2: the error 1/2 has the same size at -1, 0 and 1.
TEST(BestPolynomial, OfASquareIsTheLevelBetweenItsEnds) {
  const auto x = torch::linspace(-1, 1, 201, torch::kDouble);
  const auto fit = math::best_polynomial(x, x.square(), 2);
  EXPECT_NEAR((fit - x.square()).abs().max().item<double>(), 0.5, 2e-3);
  EXPECT_NEAR(fit[0].item<double>(), 0.5, 5e-3);
}

TEST(BestPolynomial, IsExactWhereItCanBe) {
  const auto x = torch::linspace(-1, 1, 101, torch::kDouble);
  const auto y = 1 - 2 * x + 3 * x.pow(3);
  EXPECT_LE((math::best_polynomial(x, y, 4) - y).abs().max().item<double>(), 1e-9);
}

TEST(BestPolynomial, RefusesFewerPointsThanWeights) {
  const auto x = torch::linspace(-1, 1, 3, torch::kDouble);
  EXPECT_THROW(math::best_polynomial(x, x, 4), Error);
  EXPECT_THROW(math::best_polynomial(2 * x, x, 2), Error);
}

}  // namespace
