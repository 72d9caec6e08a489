#include "cajal/layers/ffn/fast_feed_forward.h"

#include "cajal/layers/ffn/balancing.h"
#include "cajal/layers/ffn/fff_tree.h"
#include "cajal/layers/ffn/grouping.h"
#include "cajal/layers/init.h"
#include "cajal/layers/layer.h"

namespace cajal {
namespace {

FastFeedForwardOptions checked(FastFeedForwardOptions o) {
  if (o.outputs == 0) o.outputs = o.width;
  require(o.width > 0 && o.outputs > 0,
          "fast_feed_forward: width and outputs must be positive, got {} and {}", o.width,
          o.outputs);
  require(o.leaf_width > 0, "fast_feed_forward: leaf_width is {}, expected at least 1",
          o.leaf_width);
  require(o.depth >= 0 && o.depth <= fff::kMaxDepth,
          "fast_feed_forward: depth is {}, expected 0 to {} (a tree has 2^depth leaves)", o.depth,
          fff::kMaxDepth);
  const double values = static_cast<double>(fff::leaf_count(o.depth)) *
                        static_cast<double>(o.leaf_width) *
                        static_cast<double>(o.width + o.outputs);
  require(values < 4e9,
          "fast_feed_forward: depth {} with leaf_width {} needs {:.3g} weights, "
          "expected fewer than 4e9",
          o.depth, o.leaf_width, values);
  require(o.region_leak >= 0 && o.region_leak <= 0.5,
          "fast_feed_forward: region_leak is {}, expected 0 to 0.5", o.region_leak);
  require(o.leaf_dropout >= 0 && o.leaf_dropout < 1,
          "fast_feed_forward: leaf_dropout is {}, expected 0 or more, below 1", o.leaf_dropout);
  require(o.master >= 0, "fast_feed_forward: master is {}, expected 0 or more neurons", o.master);
  return o;
}

}  // namespace

torch::Tensor FastFeedForwardImpl::Trace::entropy() const {
  return right.numel() == 0 ? right.sum() : fff::decision_entropy(right).mean();
}

torch::Tensor FastFeedForwardImpl::Trace::balance() const {
  return balancing::load_balance(weights, leaf);
}

FastFeedForwardImpl::FastFeedForwardImpl(const FastFeedForwardOptions& o) : options(checked(o)) {
  const int64_t width = options.width, outputs = options.outputs, l = options.leaf_width;
  const auto uniform = [&](const char* name, torch::IntArrayRef sizes, int64_t fan_in) {
    return register_parameter(name, init::fan_in_uniform(sizes, fan_in));
  };
  node_w = uniform("node_w", {nodes(), width}, width);
  node_b = uniform("node_b", {nodes(), 1}, width);
  w1 = uniform("w1", {leaves(), width, l}, width);
  b1 = uniform("b1", {leaves(), l}, width);
  w2 = uniform("w2", {leaves(), l, outputs}, l);
  b2 = uniform("b2", {leaves(), outputs}, l);
  if (options.master > 0) {
    const int64_t master = options.master;
    const int64_t fan_in = options.master_init == MasterInit::leaf ? l : master;
    master_w1 = uniform("master_w1", {width, master}, width);
    master_b1 = uniform("master_b1", {master}, width);
    master_w2 = uniform("master_w2", {master, outputs}, fan_in);
    master_b2 = uniform("master_b2", {outputs}, fan_in);
    k = register_parameter("k", torch::tensor(0.5f));
  }
  if (options.usage != TreeUsage::none) {
    node_usage = register_buffer("node_usage", torch::zeros({nodes()}));
    leaf_usage = register_buffer("leaf_usage", torch::zeros({leaves()}));
  }
}

int64_t FastFeedForwardImpl::leaves() const { return fff::leaf_count(options.depth); }
int64_t FastFeedForwardImpl::nodes() const { return fff::node_count(options.depth); }
int64_t FastFeedForwardImpl::training_width() const {
  return leaves() * options.leaf_width + nodes() + options.master;
}
int64_t FastFeedForwardImpl::inference_width() const {
  return options.leaf_width + options.depth + options.master;
}

torch::Tensor FastFeedForwardImpl::rows_of(const torch::Tensor& x) const {
  require(x.dim() > 0 && x.size(-1) == options.width,
          "fast_feed_forward: x is {}, expected [..., width] with width = {}",
          shape_text(x.sizes()), options.width);
  return x.reshape({-1, options.width});
}

torch::Tensor FastFeedForwardImpl::blend(const torch::Tensor& tree,
                                         const torch::Tensor& rows) const {
  if (options.master == 0) return tree;
  const auto fired = activate(options.law, torch::addmm(master_b1, rows, master_w1));
  const auto s = torch::sigmoid(k);
  return s * tree + (1 - s) * torch::addmm(master_b2, fired, master_w2);
}

torch::Tensor FastFeedForwardImpl::mixture(const torch::Tensor& rows,
                                           const torch::Tensor& weights) {
  // One product over all leaves on each side: no [rows, leaves, outputs] is ever made.
  const int64_t l = options.leaf_width;
  const auto all = w1.transpose(0, 1).reshape({options.width, leaves() * l});
  auto fired = activate(options.law, torch::addmm(b1.flatten(), rows, all));
  if (options.leaf_dropout > 0) fired = torch::dropout(fired, options.leaf_dropout, is_training());
  const auto weighed = fired.view({-1, leaves(), l}) * weights.unsqueeze(-1);
  return torch::addmm(torch::mm(weights, b2), weighed.flatten(1), w2.flatten(0, 1));
}

void FastFeedForwardImpl::count(const torch::Tensor& right, const Trace& trace) {
  const torch::NoGradGuard no_grad;
  const bool hard = options.usage == TreeUsage::hard;
  const auto c = hard ? right.ge(0.5).to(right.scalar_type()) : right;
  leaf_usage.add_(hard ? balancing::count(trace.leaf, leaves()).to(leaf_usage.scalar_type())
                       : trace.weights.sum(0));
  if (nodes() > 0) node_usage.add_(fff::reach_weights(c, options.depth).sum(0));
}

FastFeedForwardImpl::Trace FastFeedForwardImpl::trace(const torch::Tensor& x, TreeForm form) {
  const auto rows = rows_of(x);
  const auto logits = torch::addmm(node_b.t(), rows, node_w.t());
  Trace out;
  out.right = torch::sigmoid(logits);
  auto signs = logits;
  if (options.region_leak > 0 && is_training()) {
    const auto flipped = torch::rand_like(out.right).lt(options.region_leak);
    out.right = torch::where(flipped, 1 - out.right, out.right);
    signs = torch::where(flipped, -logits, logits);
  }
  out.weights = fff::leaf_weights(out.right, options.depth);
  out.leaf = fff::leaf_of(signs, options.depth);
  auto weights = out.weights;
  if (form != TreeForm::soft) {
    const auto chosen = torch::one_hot(out.leaf, leaves()).to(rows.scalar_type());
    weights = form == TreeForm::straight ? weights + (chosen - weights).detach() : chosen;
  }
  auto sizes = x.sizes().vec();
  sizes.back() = options.outputs;
  out.y = blend(mixture(rows, weights), rows).reshape(sizes);
  if (options.usage != TreeUsage::none && is_training()) count(out.right, out);
  return out;
}

torch::Tensor FastFeedForwardImpl::leaf_answers(const torch::Tensor& rows,
                                                const torch::Tensor& leaf) const {
  const ByGroup sorted(leaf, leaves());
  std::vector<torch::Tensor> parts;
  for (const auto& [j, begin, count] : sorted.runs) {
    const auto heard = rows.index_select(0, sorted.order.narrow(0, begin, count));
    const auto fired = activate(options.law, torch::addmm(b1[j], heard, w1[j]));
    parts.push_back(torch::addmm(b2[j], fired, w2[j]));
  }
  if (parts.empty()) return torch::zeros({0, options.outputs}, rows.options());
  return torch::cat(parts).index_select(0, sorted.back);
}

torch::Tensor FastFeedForwardImpl::infer(const torch::Tensor& x) const {
  const auto rows = rows_of(x);
  const auto leaf = fff::descend(rows, node_w, node_b, options.depth);
  auto sizes = x.sizes().vec();
  sizes.back() = options.outputs;
  return blend(leaf_answers(rows, leaf), rows).reshape(sizes);
}

torch::Tensor FastFeedForwardImpl::leaf(const torch::Tensor& x) const {
  auto sizes = x.sizes().vec();
  sizes.pop_back();
  return fff::descend(rows_of(x), node_w, node_b, options.depth).reshape(sizes);
}

std::tuple<torch::Tensor, torch::Tensor, torch::Tensor> FastFeedForwardImpl::forward(
    const torch::Tensor& x) {
  if (options.form == TreeForm::inference && !options.losses) return {infer(x), {}, {}};
  const auto traced = trace(x, options.form);
  if (!options.losses) return {traced.y, {}, {}};
  return {traced.y, traced.entropy(), traced.balance()};
}

namespace {
const auto registered = layers::add<FastFeedForward>(
    "fast_feed_forward", "tree of neurons that picks one of 2^depth small feed-forward networks",
    {.example = {.width = 16, .outputs = 8, .leaf_width = 4, .depth = 3, .master = 8},
     .outputs = {{"y", "[..., outputs]"}, {"entropy", "[]"}, {"balance", "[]"}}});
}  // namespace
}  // namespace cajal
