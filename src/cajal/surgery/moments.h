#pragma once
#include <span>
#include <vector>

#include "cajal/models/lm/transformer.h"

namespace cajal::surgery {

/// What one FFN reads and what its neurons do on a text, as second moments: what a matrix that is
/// multiplied with them must be faithful to.
struct Moments {
  torch::Tensor input;       // E x xᵀ [width, width]
  torch::Tensor activation;  // E a aᵀ [neurons, neurons], by their original numbers
};

/// Of every layer, on the first `tokens` of a text; all layers are held at once, in fp32.
std::vector<Moments> measure_moments(lm::Transformer& model, std::span<const int32_t> ids,
                                     int64_t tokens = 4096);

/// The matrix [outputs, inputs] of rank `rank` whose outputs differ least from those of `matrix` on
/// inputs with this second moment [inputs, inputs] (undefined: least squares in the weights), as
/// its factors [outputs, rank] and [rank, inputs].
/// Source: dossier ffsplit (Build 5): whitening by the Cholesky factor, then truncated SVD.
struct Factors {
  torch::Tensor left, right;
};
Factors low_rank(const torch::Tensor& matrix, int64_t rank, const torch::Tensor& moment = {});

}  // namespace cajal::surgery
