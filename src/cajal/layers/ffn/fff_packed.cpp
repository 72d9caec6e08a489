#include "cajal/layers/ffn/fff_packed.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "cajal/core/error.h"
#include "cajal/layers/ffn/fff_tree.h"

namespace cajal::fff {
namespace {

// Sixteen sums side by side, which the compiler keeps in vector registers.
float dot(const float* a, const float* b, int64_t n) {
  constexpr int kLanes = 16;
  float sums[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (int lane = 0; lane < kLanes; ++lane) sums[lane] += a[i + lane] * b[i + lane];
  for (; i < n; ++i) sums[0] += a[i] * b[i];
  float sum = 0;
  for (const float part : sums) sum += part;
  return sum;
}

void axpy(float a, const float* x, int64_t n, float* y) {
  for (int64_t i = 0; i < n; ++i) y[i] += a * x[i];
}

float gelu(float x) { return 0.5f * x * (1 + std::erf(x * 0.70710678f)); }

void append(std::vector<float>& to, const torch::Tensor& tensor) {
  const auto flat = tensor.detach().to(torch::kFloat).contiguous();
  const auto* data = flat.data_ptr<float>();
  to.insert(to.end(), data, data + flat.numel());
}

std::vector<float> copy(const torch::Tensor& tensor) {
  std::vector<float> out;
  append(out, tensor);
  return out;
}

// Values, keys, biases of one small network, in the order that `answer` reads them.
void hear(const float* net, const float* x, int64_t width, int64_t neurons, int64_t outputs,
          float scale, float* y) {
  const float* values = net + neurons * width;
  const float* bias = values + neurons * outputs;
  axpy(scale, bias + neurons, outputs, y);
  for (int64_t i = 0; i < neurons; ++i) {
    const float fired = dot(net + i * width, x, width) + bias[i];
    if (!(fired <= 0)) axpy(scale * fired, values + i * outputs, outputs, y);  // NaN goes on
  }
}

}  // namespace

PackedTree::PackedTree(const FastFeedForwardImpl& layer)
    : width_(layer.options.width),
      outputs_(layer.options.outputs),
      leaf_width_(layer.options.leaf_width),
      depth_(layer.options.depth),
      master_(layer.options.master),
      nodes_(copy(layer.node_w)),
      biases_(copy(layer.node_b)),
      leaf_size_(leaf_width_ * (width_ + outputs_ + 1) + outputs_) {
  require(layer.options.law == Activation::relu, "packed tree: the law is {}, expected relu",
          to_name(layer.options.law));
  leaves_.reserve(static_cast<size_t>(layer.leaves() * leaf_size_));
  for (int64_t j = 0; j < layer.leaves(); ++j) {
    append(leaves_, layer.w1[j].t());
    for (const auto* part : {&layer.w2, &layer.b1, &layer.b2}) append(leaves_, (*part)[j]);
  }
  if (master_ == 0) return;
  append(leaves_, layer.master_w1.t());
  for (const auto* part : {&layer.master_w2, &layer.master_b1, &layer.master_b2})
    append(leaves_, *part);
  blend_ = torch::sigmoid(layer.k).item<float>();
}

int64_t PackedTree::leaf(const float* x) const {
  int64_t at = 0;
  for (int64_t level = 0; level < depth_; ++level) {
    const int64_t node = node_count(level) + at;
    const float logit =
        dot(nodes_.data() + node * width_, x, width_) + biases_[static_cast<size_t>(node)];
    at = 2 * at + (logit >= 0);
  }
  return at;
}

void PackedTree::answer(const float* x, int64_t leaf, float* y) const {
  std::fill(y, y + outputs_, 0.0f);
  const float* leaves = leaves_.data();
  hear(leaves + leaf * leaf_size_, x, width_, leaf_width_, outputs_, blend_, y);
  if (master_ > 0)
    hear(leaves + leaf_count(depth_) * leaf_size_, x, width_, master_, outputs_, 1 - blend_, y);
}

void PackedTree::run(const float* x, int64_t count, float* y, ThreadPool& threads) const {
  if (count == 1) return answer(x, leaf(x), y);
  std::vector<int64_t> leaves(static_cast<size_t>(count)), order(leaves.size());
  threads.parallel_for(count, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) leaves[static_cast<size_t>(i)] = leaf(x + i * width_);
  });
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
    return leaves[static_cast<size_t>(a)] < leaves[static_cast<size_t>(b)];
  });
  threads.parallel_for(count, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t row = order[static_cast<size_t>(i)];
      answer(x + row * width_, leaves[static_cast<size_t>(row)], y + row * outputs_);
    }
  });
}

PackedNodes::PackedNodes(const FffNodesImpl& layer)
    : width_(layer.options.width),
      outputs_(layer.options.outputs),
      depth_(layer.options.depth),
      trees_(layer.options.trees),
      nodes_(layer.nodes()),
      rows_(copy(torch::cat({layer.w_in, layer.w_out}, 1))),
      biases_(layer.b_in.defined() ? copy(layer.b_in)
                                   : std::vector<float>(static_cast<size_t>(trees_ * nodes_))) {
  require(layer.options.law == Activation::gelu, "packed nodes: the law is {}, expected gelu",
          to_name(layer.options.law));
}

void PackedNodes::run(const float* x, int64_t count, float* y, ThreadPool& threads) const {
  const auto one = [&](const float* in, float* out) {
    std::fill(out, out + outputs_, 0.0f);
    for (int64_t tree = 0; tree < trees_; ++tree)
      for (int64_t level = 0, at = 0; level <= depth_; ++level) {
        const int64_t node = tree * nodes_ + at;
        const float* row = rows_.data() + node * (width_ + outputs_);
        const float logit = dot(row, in, width_) + biases_[static_cast<size_t>(node)];
        axpy(gelu(logit), row + width_, outputs_, out);
        at = 2 * at + 1 + (logit > 0);
      }
  };
  if (count == 1) return one(x, y);
  threads.parallel_for(count, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) one(x + i * width_, y + i * outputs_);
  });
}

}  // namespace cajal::fff
