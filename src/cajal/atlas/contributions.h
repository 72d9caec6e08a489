#pragma once
#include "cajal/atlas/dense.h"

/// Activations written as sums over the tokens that they come from, carried exactly through norms,
/// attention and feed-forward networks.
/// Source: Kobayashi et al. 2024, arXiv 2302.00456; dossier ff-attention-map.
namespace cajal::atlas {

/// Some rows i of a representation: part j is what token j gave to it, `bias` what no token gave.
struct Contributions {
  torch::Tensor parts;  // [rows, tokens, width]; [rows, 1, width] where only token i counts
  torch::Tensor bias;   // [rows, width]

  torch::Tensor total() const { return parts.sum(1) + bias; }  // the activation, [rows, width]
  torch::Tensor norms() const { return parts.norm(2, -1); }    // |part|, [rows, tokens]
};

/// Where the bias of a neuron stands on the path of integrated gradients.
enum class BiasMode {
  inside,  // in the function: the path starts at law(bias), which goes to the bias part
  token    // a source as the tokens are: the path starts at 0; needs law(0) = 0
};

/// Through a norm whose scale (standard deviation, or root mean square) is that of the whole
/// activation: `scale` [rows, 1] as hook_scale shows it.
Contributions through_norm(const Contributions& x, lm::NormKind kind, const NormWeights& weights,
                           const torch::Tensor& scale);

/// Through a feed-forward network by integrated gradients in closed form, complete for every law.
/// Throws Error for BiasMode::token with a law that is not 0 at 0.
Contributions through_ffn(const Contributions& x, const FfnWeights& ffn, BiasMode mode);
/// The same by the midpoint rule through autograd: slow, for reference.
Contributions through_ffn_numerically(const Contributions& x, const FfnWeights& ffn, BiasMode mode,
                                      int64_t steps);
/// A first-order expansion about the activation instead: gradient times part. Not complete; for
/// comparison.
Contributions through_ffn_by_taylor(const Contributions& x, const FfnWeights& ffn);

/// Through attention: `pattern` [heads, rows, tokens]. Where each token stands for itself
/// (x.parts [tokens, 1, width]), part j of row i is Σ_h α_ij (x_j W_V + b_V) W_O: the value's bias
/// is spread by the pattern. Where x.parts is [tokens, sources, width], parts are those of the
/// sources (rollout), and the value's bias goes to the bias part.
Contributions through_attention(const Contributions& x, const AttentionWeights& attention,
                                const torch::Tensor& pattern);

/// Adds b's rows to a's; where b has one part a row, it is that of token `first_row` + row.
Contributions add(const Contributions& a, const Contributions& b, int64_t first_row);

}  // namespace cajal::atlas

CAJAL_ENUM(cajal::atlas::BiasMode, {cajal::atlas::BiasMode::inside, "inside"},
           {cajal::atlas::BiasMode::token, "token"})
