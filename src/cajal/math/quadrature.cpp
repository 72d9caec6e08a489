#include "cajal/math/quadrature.h"

#include <cmath>
#include <numbers>

#include "cajal/core/error.h"

namespace cajal::math {

Quadrature gauss_legendre(int count) {
  require(count > 0, "gauss_legendre: {} nodes, expected at least 1", count);
  Quadrature rule;
  for (int i = 0; i < count; ++i) {
    // Newton's method on the Legendre polynomial, from the Chebyshev guess of its i-th root.
    double x = std::cos(std::numbers::pi * (i + 0.75) / (count + 0.5)), slope = 1;
    for (int step = 0; step < 100; ++step) {
      double p = 1, before = 0;
      for (int k = 0; k < count; ++k) {
        const double next = ((2 * k + 1) * x * p - k * before) / (k + 1);
        before = p, p = next;
      }
      slope = count * (x * p - before) / (x * x - 1);
      const double move = p / slope;
      x -= move;
      if (std::abs(move) < 1e-16) break;
    }
    rule.nodes.push_back((1 - x) / 2);
    rule.weights.push_back(1 / ((1 - x * x) * slope * slope));
  }
  return rule;
}

}  // namespace cajal::math
