#pragma once
#include "cajal/layers/ffn/sparse_memory.h"
#include "cajal/models/lm/transformer.h"

namespace cajal::surgery {

/// Lets every FFN of the model be read as a sparse memory: the same keys and values, of which a
/// token reads the blocks that the selector of `options` chooses. Width, cells and biases are the
/// FFN's, whatever the options say; selectors with weights of their own start at random.
/// Throws Error for gated FFNs, whose cells have two keys.
void read_in_blocks(lm::Transformer& model, SparseMemoryOptions options);

}  // namespace cajal::surgery
