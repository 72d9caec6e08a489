#pragma once
#include <vector>

#include "cajal/core/options.h"
#include "cajal/core/torch.h"

namespace cajal {

/// Smooth functions that weight functions are sums of, sampled at evenly spaced points, both ends
/// among them.
enum class Basis {
  legendre,  // P_0, P_1, ... on [-1, 1], not normalised
  fourier,   // 1, √2 sin 2πs, √2 cos 2πs, √2 sin 4πs, ... on [0, 1]
  bspline,   // cubic B-splines on evenly spaced knots of [0, 1]; four functions or more
};

/// The basis at `points` places, [points, functions], double. One point lies at the left end.
/// Throws Error for sizes that are not positive or a B-spline basis below four functions.
/// Source: Heinrichs, Heim, Weber 2023, PMLR 202; dossier functional-networks.
torch::Tensor basis_matrix(Basis basis, int64_t functions, int64_t points);

/// The basis at any places of its domain scaled to [0, 1], [places, functions].
torch::Tensor basis_at(Basis basis, int64_t functions, const torch::Tensor& places);

/// Quadrature weights of places in [0, 1] by the trapezoid rule, [places]; they sum to the distance
/// between the ends. Places must rise.
torch::Tensor trapezoid_weights(const torch::Tensor& places);

/// R_ij = integral of φ_i'' φ_j'' over [0, 1] by finite differences on a fine grid, [functions,
/// functions]: Aᵀ R A is the roughness of the weight functions with coefficients A.
torch::Tensor roughness_matrix(Basis basis, int64_t functions);

/// Mean squared second difference over mean square of curves [points, ...] along axis 0: how rough
/// sampled weight functions are, whatever their size.
double roughness(const torch::Tensor& curves);

}  // namespace cajal

CAJAL_ENUM(cajal::Basis, {cajal::Basis::legendre, "legendre"}, {cajal::Basis::fourier, "fourier"},
           {cajal::Basis::bspline, "bspline"})
