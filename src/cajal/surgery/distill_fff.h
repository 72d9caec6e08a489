#pragma once
#include <span>
#include <vector>

#include "cajal/layers/ffn/fast_feed_forward.h"
#include "cajal/models/lm/transformer.h"

namespace cajal::surgery {

struct DistillOptions {
  int64_t leaf_width = 32;  // of the trees; depth 0 makes a small dense FFN
  int64_t depth = 5;
  int64_t master = 0;      // neurons of a master leaf
  int64_t tokens = 16384;  // of the text that teach
  int64_t steps = 200, batch = 512;
  double learning_rate = 2e-3;
  double entropy =
      0.1;  // weight of the node entropy at the end; it grows from 0 over the first half
  uint64_t seed = 0;
};

/// One tree for each layer that answers as the layer's trained FFN does on the text: least squares
/// of outputs that are scaled to variance 1, plus the hardening loss; what each FFN hears is that
/// of the unchanged model. Weights of the model stay as they are.
/// Throws Error for options out of range, a text shorter than a window, and activations that are
/// not finite (naming the layer).
std::vector<FastFeedForward> distill(lm::Transformer& model, std::span<const int32_t> ids,
                                     const DistillOptions& options);

/// Lets the trees (one a layer) answer instead of the FFNs, in their packed inference form.
void replace_by_trees(lm::Transformer& model, const std::vector<FastFeedForward>& trees);

}  // namespace cajal::surgery
