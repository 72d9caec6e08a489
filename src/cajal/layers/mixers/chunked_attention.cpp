#include "cajal/layers/mixers/chunked_attention.h"

#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/functions/utils.h>

#include <algorithm>
#include <memory>

#include "cajal/core/error.h"

namespace cajal::mixers {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::tensor_list;

// Queries [begin, end) over the keys that they see.
torch::Tensor attend_block(const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v,
                           double scale, int64_t begin) {
  const auto scores = torch::matmul(q, k.transpose(-1, -2)) * scale;
  const auto future = torch::ones({q.size(-2), k.size(-2)}, q.options().dtype(torch::kBool));
  return torch::matmul(torch::softmax(scores.masked_fill(future.triu(begin + 1), -INFINITY), -1),
                       v);
}

struct Chunked : Function<Chunked> {
  static torch::Tensor forward(AutogradContext* context, const torch::Tensor& q,
                               const torch::Tensor& k, const torch::Tensor& v, double scale,
                               int64_t block) {
    context->save_for_backward({q, k, v});
    context->saved_data["scale"] = scale, context->saved_data["block"] = block;
    auto y = torch::empty_like(q);
    for (int64_t begin = 0; begin < q.size(-2); begin += block) {
      const int64_t end = std::min(q.size(-2), begin + block);
      y.slice(-2, begin, end)
          .copy_(attend_block(q.slice(-2, begin, end), k.slice(-2, 0, end), v.slice(-2, 0, end),
                              scale, begin));
    }
    return y;
  }
  static tensor_list backward(AutogradContext* context, tensor_list gradients) {
    const auto saved = context->get_saved_variables();
    const double scale = context->saved_data["scale"].toDouble();
    const int64_t block = context->saved_data["block"].toInt();
    const auto &q = saved[0], &k = saved[1], &v = saved[2];
    tensor_list out{torch::zeros_like(q), torch::zeros_like(k), torch::zeros_like(v), {}, {}};
    for (int64_t begin = 0; begin < q.size(-2); begin += block) {
      const int64_t end = std::min(q.size(-2), begin + block);
      tensor_list inputs{q.slice(-2, begin, end), k.slice(-2, 0, end), v.slice(-2, 0, end)};
      for (auto& input : inputs) input = input.detach().requires_grad_();
      torch::AutoGradMode enabled(true);
      const auto y = attend_block(inputs[0], inputs[1], inputs[2], scale, begin);
      const auto parts = torch::autograd::grad({y}, inputs, {gradients[0].slice(-2, begin, end)});
      torch::NoGradGuard no_grad;
      out[0].slice(-2, begin, end).add_(parts[0]);
      out[1].slice(-2, 0, end).add_(parts[1]);
      out[2].slice(-2, 0, end).add_(parts[2]);
    }
    return out;
  }
};

using F = std::function<torch::Tensor(const torch::Tensor&)>;

struct Recomputed : torch::autograd::Node {
  Recomputed(F function, torch::Tensor input) : f(std::move(function)), x(std::move(input)) {}

  tensor_list apply(tensor_list&& gradients) override {
    const auto again = x.detach().requires_grad_();
    torch::AutoGradMode enabled(true);
    const auto y = f(again);
    torch::autograd::backward({y}, {gradients[0]});  // parameters gather theirs on the way
    release_variables();
    return {again.grad(), torch::Tensor()};
  }
  void release_variables() override { x.reset(); }

  F f;
  torch::Tensor x;
};

}  // namespace

torch::Tensor chunked_attention(const torch::Tensor& q, const torch::Tensor& k,
                                const torch::Tensor& v, double scale, int64_t block) {
  require(block > 0, "chunked_attention: blocks of {} queries", block);
  require(q.sizes() == k.sizes() && q.sizes() == v.sizes() && q.dim() >= 2,
          "chunked_attention: q {}, k {}, v {}, expected the same [..., tokens, width]",
          shape_text(q.sizes()), shape_text(k.sizes()), shape_text(v.sizes()));
  return Chunked::apply(q, k, v, scale, block);
}

torch::Tensor recomputed(const F& f, const torch::Tensor& x, const torch::Tensor& anchor) {
  if (!torch::GradMode::is_enabled()) return f(x);
  torch::Tensor y;
  {
    const torch::NoGradGuard no_grad;
    y = f(x).detach();
  }
  auto node =
      std::shared_ptr<Recomputed>(new Recomputed(f, x.detach()), torch::autograd::deleteNode);
  node->set_next_edges(torch::autograd::collect_next_edges(x, anchor));
  torch::autograd::set_history(y, node);
  return y;
}

}  // namespace cajal::mixers
