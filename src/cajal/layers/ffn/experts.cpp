#include "cajal/layers/ffn/experts.h"

#include <cmath>

#include "cajal/core/error.h"
#include "cajal/layers/ffn/grouping.h"
#include "cajal/layers/init.h"
#include "cajal/layers/layer.h"

namespace cajal {
namespace experts {

torch::Tensor centres(const torch::Tensor& keys, int64_t experts) {
  require(keys.dim() == 2 && experts >= 1 && keys.size(0) % experts == 0,
          "experts: {} do not divide keys {}", experts, shape_text(keys.sizes()));
  const auto unit = keys / keys.norm(2, -1, /*keepdim=*/true).clamp_min(1e-12);
  return unit.view({experts, keys.size(0) / experts, keys.size(1)}).mean(1);
}

torch::Tensor router_scores(RouterKind kind, const torch::Tensor& first,
                            const torch::Tensor& second, const torch::Tensor& x) {
  require(kind != RouterKind::oracle, "experts: an oracle has no router to ask");
  const auto type = x.scalar_type();
  if (kind == RouterKind::similarity) return torch::matmul(x, first.to(type).t());
  const auto unit = x / x.norm(2, -1, /*keepdim=*/true).clamp_min(1e-12);
  return torch::matmul(torch::tanh(torch::matmul(unit, first.to(type).t())), second.to(type).t());
}

torch::Tensor gains(const torch::Tensor& activations, int64_t experts, bool gated) {
  const auto parts = activations.unflatten(-1, {experts, activations.size(-1) / experts});
  return (gated ? parts.abs() : parts.clamp_min(0)).sum(-1);
}

torch::Tensor best(const torch::Tensor& scores, int64_t active) {
  const auto chosen = std::get<1>(scores.detach().topk(active, -1));
  return torch::zeros_like(scores.detach()).scatter_(-1, chosen, 1.0);
}

torch::Tensor keep(const torch::Tensor& activations, const torch::Tensor& mask) {
  const int64_t count = mask.size(-1);
  const auto parts = activations.unflatten(-1, {count, activations.size(-1) / count});
  return (parts * mask.unsqueeze(-1).to(parts.scalar_type())).flatten(-2);
}

double captured(const torch::Tensor& scores, const torch::Tensor& gains, int64_t active) {
  const auto most = std::get<0>(gains.topk(active, -1)).sum(-1);
  const auto got = (gains * best(scores, active)).sum(-1);
  return torch::where(most > 0, got / most.clamp_min(1e-30), torch::ones_like(most))
      .mean()
      .item<double>();
}

}  // namespace experts

namespace {

const ExpertFeedForwardOptions& checked(const ExpertFeedForwardOptions& o) {
  require(o.width > 0 && o.neurons > 0,
          "expert_feed_forward: width and neurons must be positive, got {} and {}", o.width,
          o.neurons);
  require(o.experts >= 1 && o.neurons % o.experts == 0,
          "expert_feed_forward: {} experts do not divide {} neurons", o.experts, o.neurons);
  require(o.active >= 1 && o.active <= o.experts,
          "expert_feed_forward: active is {}, expected 1 to {}", o.active, o.experts);
  return o;
}

}  // namespace

ExpertFeedForwardImpl::ExpertFeedForwardImpl(const ExpertFeedForwardOptions& o)
    : options(checked(o)) {
  const auto rows = [&](const char* name) {
    return register_parameter(name, init::fan_in_uniform({o.neurons, o.width}));
  };
  key = rows("key");
  if (o.gated) gate = rows("gate");
  value = register_parameter("value", init::fan_in_uniform({o.neurons, o.width}, o.neurons));
  if (o.bias) {
    bias_key = register_parameter("bias_key", torch::zeros({o.neurons}));
    if (o.gated) bias_gate = register_parameter("bias_gate", torch::zeros({o.neurons}));
    bias_value = register_parameter("bias_value", torch::zeros({o.width}));
  }
  if (o.router == RouterKind::oracle) return;
  const auto listens = (o.gated ? gate : key).detach();
  first = register_parameter("first", experts::centres(listens, o.experts));
  if (o.router == RouterKind::mlp) second = register_parameter("second", torch::eye(o.experts));
}

torch::Tensor ExpertFeedForwardImpl::run(const torch::Tensor& rows, int64_t begin,
                                         int64_t end) const {
  const auto hears = [&](const torch::Tensor& weight, const torch::Tensor& bias) {
    return torch::linear(rows, weight.slice(0, begin, end),
                         bias.defined() ? bias.slice(0, begin, end) : torch::Tensor());
  };
  const auto heard = hears(key, bias_key);
  return options.gated ? activate(options.law, hears(gate, bias_gate)) * heard
                       : activate(options.law, heard);
}

torch::Tensor ExpertFeedForwardImpl::activations(const torch::Tensor& rows) const {
  return run(rows, 0, options.neurons);
}

torch::Tensor ExpertFeedForwardImpl::scores(const torch::Tensor& rows) const {
  if (options.router == RouterKind::oracle)
    return experts::gains(activations(rows), options.experts, options.gated);
  return experts::router_scores(options.router, first, second, rows);
}

torch::Tensor ExpertFeedForwardImpl::grouped(const torch::Tensor& rows,
                                             const torch::Tensor& chosen) const {
  const ByGroup sorted(chosen.flatten(), options.experts);
  const auto row = torch::floor_divide(sorted.order, options.active);
  const int64_t size = options.neurons / options.experts;
  auto y = torch::zeros({rows.size(0), options.width}, rows.options());
  for (const auto& [expert, begin, count] : sorted.runs) {
    const auto tokens = row.narrow(0, begin, count);
    const int64_t from = expert * size;
    y = y.index_add(
        0, tokens,
        run(rows.index_select(0, tokens), from, from + size).mm(value.slice(0, from, from + size)));
  }
  return y;
}

torch::Tensor ExpertFeedForwardImpl::gathered(const torch::Tensor& rows,
                                              const torch::Tensor& chosen) const {
  const auto& o = options;
  const int64_t size = o.neurons / o.experts;
  const auto neuron =
      (chosen.unsqueeze(-1) * size + torch::arange(size, chosen.options())).flatten(1);
  const auto flat = neuron.flatten();
  const auto rows_of = [&](const torch::Tensor& weight) {  // [rows, chosen neurons, width]
    return weight.index_select(0, flat).view({rows.size(0), -1, o.width});
  };
  const auto hears = [&](const torch::Tensor& weight, const torch::Tensor& bias) {
    const auto heard = torch::matmul(rows_of(weight), rows.unsqueeze(-1)).squeeze(-1);
    return bias.defined() ? heard + bias.index_select(0, flat).view_as(heard) : heard;
  };
  const auto heard = hears(key, bias_key);
  const auto fired =
      o.gated ? activate(o.law, hears(gate, bias_gate)) * heard : activate(o.law, heard);
  return torch::matmul(fired.unsqueeze(1), rows_of(value)).squeeze(1);
}

torch::Tensor ExpertFeedForwardImpl::forward(const torch::Tensor& x) const {
  const auto& o = options;
  require(x.dim() > 0 && x.size(-1) == o.width,
          "expert_feed_forward: x is {}, expected [..., width] with width = {}",
          shape_text(x.sizes()), o.width);
  const auto rows = x.reshape({-1, o.width});
  const int64_t count = rows.size(0);
  auto path = o.path;
  if (path == MemoryPath::automatic)
    path = count <= 4                         ? MemoryPath::gather
           : o.router == RouterKind::oracle   ? MemoryPath::masked  // has all activations
           : count * o.active < 8 * o.experts ? MemoryPath::masked
                                              : MemoryPath::grouped;
  torch::Tensor y;
  if (count == 0) {
    y = rows;
  } else if (path == MemoryPath::masked) {
    const auto fired = activations(rows);
    const auto mask = o.router == RouterKind::oracle
                          ? experts::best(experts::gains(fired, o.experts, o.gated), o.active)
                          : experts::best(scores(rows), o.active);
    y = experts::keep(fired, mask).mm(value);
  } else {
    const auto chosen = std::get<1>(scores(rows).detach().topk(o.active, -1));
    y = path == MemoryPath::gather ? gathered(rows, chosen) : grouped(rows, chosen);
  }
  if (o.bias) y = y + bias_value;
  return y.reshape(x.sizes());
}

namespace {
const auto registered_experts = layers::add<ExpertFeedForward>(
    "expert_feed_forward",
    "trained feed-forward network cut into experts: MLP router, similarity, oracle (MoEfication)",
    {.example = {.width = 16, .neurons = 64, .experts = 8, .active = 2}});
}  // namespace
}  // namespace cajal
