#pragma once
#include "cajal/core/options.h"
#include "cajal/core/torch.h"

namespace cajal::train {

/// How glad a layer is of what it sees, from its activations h over the last axis.
enum class Goodness {
  l2,            // ‖h‖₂ (not squared)
  l1,            // ‖h‖₁
  linf,          // max |h|
  sum_squares,   // Σ h²
  mean_squares,  // Σ h² / width
};

/// h [..., width] -> [...].
torch::Tensor goodness(Goodness kind, const torch::Tensor& h);

/// log(1 + exp(x)) = -log σ(-x), which neither overflows nor loses the small values.
torch::Tensor stable_softplus(const torch::Tensor& x);

/// Forward-forward loss: the mean over the stacked batch of softplus(θ - positive) and
/// softplus(negative - θ), each [batch]: the cross entropy of a sigmoid on goodness - θ.
torch::Tensor goodness_loss(const torch::Tensor& positive, const torch::Tensor& negative,
                            double threshold);

}  // namespace cajal::train

CAJAL_ENUM(cajal::train::Goodness, {cajal::train::Goodness::l2, "l2"},
           {cajal::train::Goodness::l1, "l1"}, {cajal::train::Goodness::linf, "linf"},
           {cajal::train::Goodness::sum_squares, "sum_squares"},
           {cajal::train::Goodness::mean_squares, "mean_squares"})
