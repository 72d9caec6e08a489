#pragma once
#include "cajal/models/lm/transformer.h"

/// Weights of a model as plain tensors in one layout, whatever the family and the storage:
/// fp32, or double where the model is.
namespace cajal::atlas {

/// [outputs, inputs].
torch::Tensor dense_weight(const Matrix& matrix);

/// Row i of each matrix is neuron i, in stored order; undefined where the model has none.
struct FfnWeights {
  torch::Tensor key, gate, value;  // [neurons, width]
  torch::Tensor key_bias, gate_bias, value_bias;
  Activation law;
  bool gated;
};
FfnWeights dense_ffn(const lm::Config& config, const lm::FeedForward& ffn);

struct AttentionWeights {
  torch::Tensor query;                             // [heads, head width, width]
  torch::Tensor key, value;                        // [key-value heads, head width, width]
  torch::Tensor query_bias, key_bias, value_bias;  // [heads, head width], or undefined
  torch::Tensor output;                            // [heads, head width, width]
  torch::Tensor output_bias;                       // [width] or undefined
};
AttentionWeights dense_attention(const lm::Config& config, const lm::Attention& attention);

/// Weight and bias of a norm as it multiplies and adds: 1 + w where the family stores w so; ones
/// and zeros where it has none.
struct NormWeights {
  torch::Tensor gain, shift;  // [width]
};
NormWeights dense_norm(const lm::Config& config, const lm::Norm& norm, torch::Dtype type);

/// fp32 or double: what the model computes in.
torch::Dtype compute_type(const lm::Transformer& model);

}  // namespace cajal::atlas
