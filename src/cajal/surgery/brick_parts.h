#pragma once
#include <map>
#include <string>

#include "cajal/models/lm/transformer.h"

// Parts of a model that bricks point at.
namespace cajal::surgery {

/// The matrix of a layer by the name that low-rank bricks use ("attention.query", "ffn.value").
/// Throws Error for a name that is none or that this model does not have.
Matrix& matrix_at(lm::Transformer& model, int64_t layer, const std::string& module);

/// Every weight of the model by our name, as stored; a tied vocabulary once. Throws Error for block
/// formats, which no change can be added to.
std::map<std::string, torch::Tensor> float_parts(lm::Transformer& model);

/// Sets the weights of `values` (names as in float_parts) in a model whose tensors are its own.
void set_parts(lm::Transformer& model, const std::map<std::string, torch::Tensor>& values);

/// The same model with fp32 weights that belong to it alone, so that they may be changed.
lm::Transformer own_copy(const lm::Transformer& model);

/// Such a copy whose weights are parameters that need gradients.
lm::Transformer trainable_copy(const lm::Transformer& model);

/// One group of neurons a layer, padded with neurons that write nothing to the most that a layer
/// has, so that lm::save can write it; a layer's FFN must not be replaced by a function.
lm::Transformer plain(const lm::Transformer& model);

}  // namespace cajal::surgery
