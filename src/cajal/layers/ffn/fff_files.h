#pragma once
#include <filesystem>

#include "cajal/layers/ffn/fast_feed_forward.h"

namespace cajal::fff {

/// A trained tree from a safetensors file that names its tensors as the reference code does:
/// node_weights [nodes, width], node_biases [nodes, 1], w1s [leaves, width, leaf_width], b1s, w2s
/// [leaves, leaf_width, outputs], b2s; with a master leaf master_w1 [1, width, master], master_b1,
/// master_w2, master_b2 and the scalar k. Sizes come from the shapes.
/// Throws Error that names the file and the tensor that is missing or has a wrong shape.
FastFeedForward load_reference(const std::filesystem::path& path);

}  // namespace cajal::fff
