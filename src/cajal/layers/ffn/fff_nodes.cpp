#include "cajal/layers/ffn/fff_nodes.h"

#include "cajal/layers/ffn/fff_tree.h"
#include "cajal/layers/init.h"
#include "cajal/layers/layer.h"

namespace cajal {
namespace {

FffNodesOptions checked(FffNodesOptions o) {
  if (o.outputs == 0) o.outputs = o.width;
  require(o.width > 0 && o.outputs > 0,
          "fff_nodes: width and outputs must be positive, got {} and {}", o.width, o.outputs);
  require(o.depth >= 0 && o.depth <= fff::kMaxDepth,
          "fff_nodes: depth is {}, expected 0 to {} (a tree has 2^(depth + 1) - 1 neurons)",
          o.depth, fff::kMaxDepth);
  require(o.trees > 0, "fff_nodes: trees is {}, expected at least 1", o.trees);
  const double values = static_cast<double>(fff::node_count(o.depth + 1)) *
                        static_cast<double>(o.trees) * static_cast<double>(o.width + o.outputs);
  require(values < 4e9,
          "fff_nodes: depth {} with {} trees needs {:.3g} weights, expected fewer than "
          "4e9",
          o.depth, o.trees, values);
  return o;
}

}  // namespace

FffNodesImpl::FffNodesImpl(const FffNodesOptions& o) : options(checked(o)) {
  const int64_t all = options.trees * nodes(), path = (options.depth + 1) * options.trees;
  w_in = register_parameter("w_in", init::fan_in_uniform({all, options.width}));
  if (options.bias) b_in = register_parameter("b_in", init::fan_in_uniform({all}, options.width));
  w_out = register_parameter("w_out", init::fan_in_uniform({all, options.outputs}, path));
}

int64_t FffNodesImpl::nodes() const { return fff::node_count(options.depth + 1); }

torch::Tensor FffNodesImpl::rows_of(const torch::Tensor& x) const {
  require(x.dim() > 0 && x.size(-1) == options.width,
          "fff_nodes: x is {}, expected [..., width] with width = {}", shape_text(x.sizes()),
          options.width);
  return x.reshape({-1, options.width});
}

torch::Tensor FffNodesImpl::masked(const torch::Tensor& x) const {
  const auto rows = rows_of(x);
  const auto logits = torch::linear(rows, w_in, b_in).view({rows.size(0), options.trees, nodes()});
  torch::Tensor mask;
  {
    const torch::NoGradGuard no_grad;
    mask = torch::zeros_like(logits);
    auto at = torch::zeros({rows.size(0), options.trees, 1}, logits.options().dtype(torch::kLong));
    for (int64_t level = 0; level <= options.depth; ++level) {
      mask.scatter_(2, at, 1);
      at = 2 * at + 1 + logits.gather(2, at).gt(0).to(torch::kLong);
    }
  }
  auto sizes = x.sizes().vec();
  sizes.back() = options.outputs;
  return torch::mm((activate(options.law, logits) * mask).flatten(1), w_out).reshape(sizes);
}

torch::Tensor FffNodesImpl::infer(const torch::Tensor& x) const {
  const auto rows = rows_of(x);
  const auto first = torch::arange(options.trees, rows.options().dtype(torch::kLong)) * nodes();
  auto at = torch::zeros({rows.size(0), options.trees}, first.options());
  torch::Tensor y;
  for (int64_t level = 0; level <= options.depth; ++level) {
    const auto place = (at + first).flatten();
    const auto heard = w_in.index_select(0, place).view({rows.size(0), options.trees, -1});
    auto logit = torch::matmul(heard, rows.unsqueeze(-1)).squeeze(-1);
    if (options.bias) logit = logit + b_in.index_select(0, place).view_as(logit);
    const auto written = w_out.index_select(0, place).view({rows.size(0), options.trees, -1});
    const auto part = torch::matmul(activate(options.law, logit).unsqueeze(1), written).squeeze(1);
    y = y.defined() ? y + part : part;
    at = 2 * at + 1 + logit.detach().gt(0).to(torch::kLong);
  }
  auto sizes = x.sizes().vec();
  sizes.back() = options.outputs;
  return y.reshape(sizes);
}

torch::Tensor FffNodesImpl::forward(const torch::Tensor& x) const {
  return options.form == NodesForm::training ? masked(x) : infer(x);
}

namespace {
const auto registered = layers::add<FffNodes>(
    "fff_nodes", "trees of neurons, each visited one decides and writes (UltraFastBERT)",
    {.example = {.width = 16, .outputs = 8, .depth = 3, .trees = 2},
     .outputs = {{"y", "[..., outputs]"}}});
}  // namespace
}  // namespace cajal
