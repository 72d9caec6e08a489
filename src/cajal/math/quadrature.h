#pragma once
#include <vector>

namespace cajal::math {

/// Nodes and weights of a rule on [0, 1]; the weights sum to 1.
struct Quadrature {
  std::vector<double> nodes, weights;
};

/// Gauss-Legendre: exact for polynomials of degree below 2 `count`. Throws Error for count < 1.
Quadrature gauss_legendre(int count);

}  // namespace cajal::math
