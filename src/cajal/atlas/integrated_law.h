#pragma once
#include "cajal/core/torch.h"
#include "cajal/neurons/activation.h"

/// Integrals of a law along a straight path, elementwise and in closed form or by quadrature: what
/// integrated gradients of a neuron come down to, since all its inputs enter through one sum.
/// Source: dossier ff-attention-map, Build 4.
namespace cajal::atlas {

/// law'(x).
torch::Tensor slope(Activation law, const torch::Tensor& x);

/// ∫₀¹ law'(b + a y) da = (law(b + y) - law(b)) / y, and law'(b) where y is 0; accurate for small
/// y. b and y broadcast.
torch::Tensor mean_slope(Activation law, const torch::Tensor& b, const torch::Tensor& y);

/// ∫₀¹ law(b + a y) da; exact for relu, else 16 Gauss-Legendre nodes.
torch::Tensor mean_value(Activation law, const torch::Tensor& b, const torch::Tensor& y);

/// Whether law(0) = 0.
bool vanishes_at_zero(Activation law);

/// Shares of a gated neuron law(g) u along the path from (b_g, b_u) to (b_g + g, b_u + u): input j
/// with parts g_j and u_j of g and u holds g_j `gate` + u_j `up`, which sum to
/// law(b_g + g)(b_u + u) - law(b_g) b_u exactly.
struct GatedShares {
  torch::Tensor gate, up;
};
GatedShares gated_shares(Activation law, const torch::Tensor& gate_bias, const torch::Tensor& gate,
                         const torch::Tensor& up_bias, const torch::Tensor& up);

}  // namespace cajal::atlas
