#pragma once
#include <vector>

#include "cajal/core/torch.h"

/// Losses that spread the work over leaves or experts, and figures of how well it is spread.
namespace cajal::balancing {

/// N / B² · Σ_j f_j P_j, with P_j the sum over the batch of `soft` [batch, N] and f_j the number of
/// rows whose `chosen` i64 [batch] is j (or [batch, k]: any of the k). 1 at even use, N when one
/// takes all; the gradient flows through P alone. Source: dossier fff-balanced (the Switch loss).
torch::Tensor load_balance(const torch::Tensor& soft, const torch::Tensor& chosen);

/// Squared coefficient of variation, variance / (mean² + 1e-10), of `load` [N]; 0 for N = 1.
/// Source: Shazeer et al. 2017, arXiv 1701.06538, equation 7.
torch::Tensor squared_variation(const torch::Tensor& load);

/// How evenly blocks are used: from how often each was chosen.
struct Use {
  double used = 0;       // share of blocks chosen at all
  double entropy = 0;    // of the choices, 1 = even; 1 for one block
  double peak = 0;       // largest count over the mean
  double variation = 0;  // standard deviation of the counts over their mean
  double dead() const { return 1 - used; }
};

/// Counts i64 [blocks] of the choices.
torch::Tensor count(const torch::Tensor& chosen, int64_t blocks);
Use use_of(const torch::Tensor& counts);

}  // namespace cajal::balancing
