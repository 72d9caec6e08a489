#include "cajal/layers/ffn/fff_packed.h"

namespace cajal::fff {
namespace {

/// A copy of a tensor whose last axis is a row's, kept alive by `weights`.
const float* values_of(const torch::Tensor& tensor, std::vector<torch::Tensor>& weights) {
  using torch::MemoryFormat;
  weights.push_back(tensor.detach().to(torch::kCPU, torch::kFloat).clone(MemoryFormat::Contiguous));
  return weights.back().data_ptr<float>();
}

RowMatrix rows_of(const torch::Tensor& tensor, std::vector<torch::Tensor>& weights) {
  const int64_t width = tensor.size(-1);
  return row_matrix(Format::f32, values_of(tensor, weights), tensor.numel() / width, width,
                    "packed tree");
}

}  // namespace

PackedTree::PackedTree(const FastFeedForwardImpl& layer) {
  tree_ = {.depth = layer.options.depth,
           .node = rows_of(layer.node_w, weights_),
           .key = rows_of(layer.w1.transpose(1, 2), weights_),
           .value = rows_of(layer.w2, weights_),
           .node_bias = values_of(layer.node_b, weights_),
           .key_bias = values_of(layer.b1, weights_),
           .value_bias = values_of(layer.b2, weights_),
           .law = layer.options.law};
  if (layer.options.master == 0) return;
  master_ = {.depth = 0,
             .node = {},
             .key = rows_of(layer.master_w1.t(), weights_),
             .value = rows_of(layer.master_w2, weights_),
             .key_bias = values_of(layer.master_b1, weights_),
             .value_bias = values_of(layer.master_b2, weights_),
             .law = layer.options.law};
  blend_ = torch::sigmoid(layer.k).item<float>();
}

void PackedTree::run(const float* x, int64_t count, float* y, ThreadPool& threads) const {
  tree_feed_forward(tree_, x, count, y, threads);
  if (master_.key.rows == 0) return;
  thread_local std::vector<float> other;
  other.resize(static_cast<size_t>(count * tree_.outputs()));
  tree_feed_forward(master_, x, count, other.data(), threads);
  for (size_t i = 0; i < other.size(); ++i) y[i] = blend_ * y[i] + (1 - blend_) * other[i];
}

PackedNodes::PackedNodes(const FffNodesImpl& layer) {
  forest_ = {.depth = layer.options.depth,
             .trees = layer.options.trees,
             .key = rows_of(layer.w_in, weights_),
             .value = rows_of(layer.w_out, weights_),
             .key_bias = layer.b_in.defined() ? values_of(layer.b_in, weights_) : nullptr,
             .law = layer.options.law};
}

void PackedNodes::run(const float* x, int64_t count, float* y, ThreadPool& threads) const {
  forest_feed_forward(forest_, x, count, y, threads);
}

}  // namespace cajal::fff
