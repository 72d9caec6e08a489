#pragma once
#include <functional>
#include <vector>

#include "cajal/core/options.h"
#include "cajal/core/threads.h"
#include "cajal/kernels/copies.h"

namespace cajal::study {

/// Median seconds of one call, and how many times faster the layer was, pair by pair.
struct BesideDense {
  double layer = 0, dense = 0, faster = 0;
};
CAJAL_OPTIONS(BesideDense, layer, dense, faster)

/// Times a layer beside the faster of two dense networks, ReLU(x keyᵀ) value, with the kernels for
/// rows and with libtorch's products. All take their inputs and copies of their weights in turn;
/// the layer is called with x [batch, width] and y [batch, width].
BesideDense beside_dense(MatrixCopies& key, MatrixCopies& value, int64_t batch, int rounds,
                         ThreadPool& threads,
                         const std::function<void(const float* x, float* y)>& layer);

/// Median seconds of one token through trees, and after them through the experts that a noisy gate
/// finds in a memory as wide as the last tree, the best two.
std::vector<double> beside_experts(std::vector<TreeCopies>& trees, int rounds, ThreadPool& threads);

}  // namespace cajal::study
