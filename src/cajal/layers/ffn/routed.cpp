#include "cajal/layers/ffn/routed.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "cajal/layers/ffn/balancing.h"
#include "cajal/layers/ffn/grouping.h"
#include "cajal/layers/init.h"
#include "cajal/layers/layer.h"

namespace cajal {
namespace {

using Parts = std::vector<torch::Tensor>;

// One view a block; its backward is one concatenation instead of one padding a block.
Parts parts_of(const torch::Tensor& rows, int64_t blocks) {
  if (!rows.defined()) return Parts(static_cast<size_t>(blocks));
  return rows.split(rows.size(0) / blocks, 0);
}

/// The networks of all blocks, and what of the input they share.
class Blocks {
 public:
  Blocks(const NeuronRowsView& n, int64_t blocks, Activation law)
      : n_(n),
        law_(law),
        key_(parts_of(n.key, blocks)),
        gate_(parts_of(n.gate, blocks)),
        value_(parts_of(n.value, blocks)),
        bias_key_(parts_of(n.bias_key, blocks)),
        bias_gate_(parts_of(n.bias_gate, blocks)),
        key_right_(parts_of(n.lora_key.right, blocks)),
        gate_right_(parts_of(n.lora_gate.right, blocks)),
        value_left_(parts_of(n.lora_value.left, blocks)) {}

  /// The input's side of the corrections, x A1: all blocks use it.
  struct Input {
    torch::Tensor x, key, gate;
    Input take(const torch::Tensor& rows) const {
      const auto of = [&](const torch::Tensor& t) {
        return t.defined() ? t.index_select(0, rows) : t;
      };
      return {of(x), of(key), of(gate)};
    }
    Input narrow(int64_t begin, int64_t count) const {
      const auto of = [&](const torch::Tensor& t) {
        return t.defined() ? t.narrow(0, begin, count) : t;
      };
      return {of(x), of(key), of(gate)};
    }
  };
  Input input(const torch::Tensor& rows) const {
    const auto left = [&](const LowRank& l) {
      return l.defined() ? torch::mm(rows, l.left) : torch::Tensor();
    };
    return {rows, left(n_.lora_key), left(n_.lora_gate)};
  }

  /// What block g gives: c W2ᵀ h, and the correction's h A2 (undefined without one).
  std::pair<torch::Tensor, torch::Tensor> run(int64_t g, const Input& in,
                                              const torch::Tensor& c) const {
    const auto b = static_cast<size_t>(g);
    auto h = first(in.x, c, key_[b], bias_key_[b], in.key, key_right_[b]);
    if (gate_[b].defined())
      h = h * activate(law_, first(in.x, c, gate_[b], bias_gate_[b], in.gate, gate_right_[b]));
    else
      h = activate(law_, h);
    const auto out = torch::mm(h, value_[b]);
    return {c.defined() ? out * c : out,
            value_left_[b].defined() ? torch::mm(h, value_left_[b]) : torch::Tensor()};
  }

  /// From the sums over blocks of what `run` gives.
  torch::Tensor finish(const torch::Tensor& sum, const torch::Tensor& corrections) const {
    auto y = sum;
    if (corrections.defined())
      y = y + torch::mm(corrections, n_.lora_value.right.t()) * n_.lora_scale;
    return n_.bias_value.defined() ? y + n_.bias_value : y;
  }

 private:
  torch::Tensor first(const torch::Tensor& x, const torch::Tensor& c, const torch::Tensor& weight,
                      const torch::Tensor& bias, const torch::Tensor& left,
                      const torch::Tensor& right) const {
    auto pre = bias.defined() ? torch::addmm(bias, x, weight.t()) : torch::mm(x, weight.t());
    if (c.defined()) pre = pre * c;
    return right.defined() ? torch::addmm(pre, left, right.t(), 1, n_.lora_scale) : pre;
  }

  const NeuronRowsView& n_;
  Activation law_;
  Parts key_, gate_, value_, bias_key_, bias_gate_, key_right_, gate_right_, value_left_;
};

torch::Tensor all_of(const Blocks& blocks, const torch::Tensor& rows) {
  const auto [sum, corrections] = blocks.run(0, blocks.input(rows), {});
  return blocks.finish(sum, corrections);
}

torch::Tensor masked(const Blocks& blocks, int64_t count, const torch::Tensor& rows,
                     const torch::Tensor& chosen, const torch::Tensor& c) {
  const auto in = blocks.input(rows);
  torch::Tensor sum, corrections;
  for (int64_t g = 0; g < count; ++g) {
    const auto here = chosen.eq(g);
    const auto mask = here.any(1, /*keepdim=*/true).to(rows.scalar_type());
    const auto of = c.defined() ? (c * here.to(c.scalar_type())).sum(1, /*keepdim=*/true) : c;
    const auto [y, correction] = blocks.run(g, in, of);
    sum = sum.defined() ? sum + y * mask : y * mask;
    if (!correction.defined()) continue;
    corrections = corrections.defined() ? corrections + correction * mask : correction * mask;
  }
  return blocks.finish(sum, corrections);
}

torch::Tensor grouped(const Blocks& blocks, int64_t count, const torch::Tensor& rows,
                      const torch::Tensor& chosen, const torch::Tensor& c) {
  const int64_t k = chosen.size(1);
  const ByGroup groups(chosen.flatten(), count);
  const auto token = groups.order.div(k, "floor");
  const auto in = blocks.input(rows).take(token);
  const auto sorted = c.defined() ? c.flatten().index_select(0, groups.order).unsqueeze(1) : c;
  Parts sums, corrections;
  for (const auto& run : groups.runs) {
    const auto of = sorted.defined() ? sorted.narrow(0, run.begin, run.count) : sorted;
    const auto [y, correction] = blocks.run(run.group, in.narrow(run.begin, run.count), of);
    sums.push_back(y);
    if (correction.defined()) corrections.push_back(correction);
  }
  const auto to_tokens = [&](const Parts& parts) {
    const auto all = torch::cat(parts).index_select(0, groups.back);
    return k == 1 ? all : all.view({rows.size(0), k, all.size(1)}).sum(1);
  };
  return blocks.finish(to_tokens(sums),
                       corrections.empty() ? torch::Tensor() : to_tokens(corrections));
}

RoutedFeedForwardOptions checked(RoutedFeedForwardOptions o) {
  require(o.width > 0 && o.neurons > 0 && o.blocks > 0,
          "routed_feed_forward: width, neurons and blocks must be positive, got {}, {} and {}",
          o.width, o.neurons, o.blocks);
  require(o.neurons % o.blocks == 0, "routed_feed_forward: {} neurons do not divide into {} blocks",
          o.neurons, o.blocks);
  if (o.active == 0) o.active = std::max<int64_t>(1, o.blocks / 2);
  require(o.active > 0 && o.active <= o.blocks,
          "routed_feed_forward: active is {}, expected 1 to {} (blocks)", o.active, o.blocks);
  require(o.rank >= 0 && o.alpha >= 0,
          "routed_feed_forward: rank {} and alpha {} must be 0 or more", o.rank, o.alpha);
  require(o.rank > 0 || o.alpha == 0, "routed_feed_forward: alpha {} without a rank", o.alpha);
  return o;
}

}  // namespace

torch::Tensor LowRank::apply(const torch::Tensor& x) const {
  return torch::matmul(torch::matmul(x, left), right.t());
}

LowRank make_low_rank(int64_t inputs, int64_t outputs, int64_t rank, bool kaiming) {
  const auto left =
      kaiming ? init::fan_in_uniform({inputs, rank}, inputs) : torch::randn({inputs, rank});
  return {left, torch::zeros({outputs, rank})};
}

torch::Tensor routed_forward(const torch::Tensor& rows, const NeuronRowsView& neurons,
                             int64_t blocks, const torch::Tensor& chosen, const torch::Tensor& c,
                             Activation law, RoutedForm form) {
  if (!chosen.defined()) return all_of(Blocks(neurons, 1, law), rows);
  const Blocks all(neurons, blocks, law);
  if (rows.size(0) == 0) return torch::zeros_like(rows);
  return form == RoutedForm::masked ? masked(all, blocks, rows, chosen, c)
                                    : grouped(all, blocks, rows, chosen, c);
}

BlockChoice choose_blocks(const torch::Tensor& rows, const torch::Tensor& router,
                          const torch::Tensor& bias, int64_t active) {
  const auto probability = torch::sigmoid(torch::addmm(bias, rows, router.t()));
  const auto [best, chosen] = probability.topk(active, -1);
  return {chosen, best * 2, probability};
}

RoutedFeedForwardImpl::RoutedFeedForwardImpl(const RoutedFeedForwardOptions& o)
    : options(checked(o)) {
  const auto uniform = [&](const char* name, torch::IntArrayRef sizes, int64_t fan_in) {
    return register_parameter(name, init::fan_in_uniform(sizes, fan_in));
  };
  router = uniform("router", {o.blocks, o.width}, o.width);
  router_bias = uniform("router_bias", {o.blocks}, o.width);
  neurons.key = uniform("key", {o.neurons, o.width}, o.width);
  if (o.gated) neurons.gate = uniform("gate", {o.neurons, o.width}, o.width);
  neurons.value = uniform("value", {o.neurons, o.width}, o.neurons);
  if (o.bias) {
    neurons.bias_key = uniform("bias_key", {o.neurons}, o.width);
    if (o.gated) neurons.bias_gate = uniform("bias_gate", {o.neurons}, o.width);
    neurons.bias_value = uniform("bias_value", {o.width}, o.neurons);
  }
  if (o.rank == 0) return;
  const auto low_rank = [&](const std::string& name, int64_t inputs, int64_t outputs) {
    const auto made = make_low_rank(inputs, outputs, o.rank, o.alpha > 0);
    return LowRank{register_parameter("lora_" + name + "_left", made.left),
                   register_parameter("lora_" + name + "_right", made.right)};
  };
  neurons.lora_key = low_rank("key", o.width, o.neurons);
  if (o.gated) neurons.lora_gate = low_rank("gate", o.width, o.neurons);
  neurons.lora_value = low_rank("value", o.neurons, o.width);
  if (o.alpha > 0) neurons.lora_scale = o.alpha / static_cast<double>(o.rank);
}

std::tuple<torch::Tensor, torch::Tensor> RoutedFeedForwardImpl::forward(
    const torch::Tensor& x) const {
  require(x.dim() > 0 && x.size(-1) == options.width,
          "routed_feed_forward: x is {}, expected [..., width] with width = {}",
          shape_text(x.sizes()), options.width);
  const auto rows = x.reshape({-1, options.width});
  const auto choice = choose_blocks(rows, router, router_bias, options.active);
  const auto y =
      routed_forward(rows, neurons, options.blocks, choice.chosen,
                     options.rank > 0 ? choice.c : torch::Tensor(), options.law, options.form);
  if (!options.losses) return {y.view(x.sizes()), {}};
  const auto soft = choice.probability / choice.probability.sum(-1, /*keepdim=*/true);
  return {y.view(x.sizes()), balancing::load_balance(soft, choice.chosen)};
}

namespace {
const auto registered_routed = layers::add<RoutedFeedForward>(
    "routed_feed_forward", "feed-forward network in blocks of which a token reads some (SPT)",
    {.example = {.width = 16, .neurons = 32, .gated = true, .rank = 2, .losses = true},
     .outputs = {{"y", "[..., width]"}, {"loss", "[]"}}});
}  // namespace
}  // namespace cajal
