#include "cajal/layers/ops.h"

#include "cajal/core/error.h"
#include "cajal/layers/ops_cuda.h"

namespace cajal::ops {
namespace {

// Norms and losses are computed in fp32 at least; a narrower type only carries the result.
torch::ScalarType compute_type(const torch::Tensor& x) {
  return x.scalar_type() == torch::kDouble ? torch::kDouble : torch::kFloat;
}

}  // namespace

torch::Tensor norm(const torch::Tensor& x, NormKind kind, const torch::Tensor& weight,
                   const torch::Tensor& bias, double epsilon) {
  require(!weight.defined() || weight.size(-1) == x.size(-1),
          "norm: last axis of x is {}, expected {} as in the weight", x.size(-1),
          weight.defined() ? weight.size(-1) : 0);
  if constexpr (fused::available)
    if (fused::fits_norm(x)) return fused::add_norm(x, {}, kind, weight, bias, epsilon, {}).second;
  const auto type = compute_type(x);
  const auto wide = x.to(type);
  const auto widened = [&](const torch::Tensor& t) { return t.defined() ? t.to(type) : t; };
  if (kind == NormKind::layer)
    return torch::layer_norm(wide, {x.size(-1)}, widened(weight), widened(bias), epsilon)
        .to(x.scalar_type());
  auto y = wide * torch::rsqrt(wide.square().mean(-1, /*keepdim=*/true) + epsilon);
  if (weight.defined())
    y = y * (kind == NormKind::rms_one_plus ? widened(weight) + 1 : widened(weight));
  if (bias.defined()) y = y + widened(bias);
  return y.to(x.scalar_type());
}

std::pair<torch::Tensor, torch::Tensor> add_norm(const torch::Tensor& x, const torch::Tensor& delta,
                                                 NormKind kind, const torch::Tensor& weight,
                                                 const torch::Tensor& bias, double epsilon,
                                                 const torch::Tensor& delta_bias) {
  if constexpr (fused::available)
    if (fused::fits_norm(x))
      return fused::add_norm(x, delta, kind, weight, bias, epsilon, delta_bias);
  auto sum = delta_bias.defined() ? x + (delta + delta_bias) : x + delta;
  auto normed = norm(sum, kind, weight, bias, epsilon);
  return {std::move(sum), std::move(normed)};
}

torch::Tensor linear(const torch::Tensor& x, const torch::Tensor& weight,
                     const torch::Tensor& bias) {
  if constexpr (fused::available)
    if (fused::fits_rows(x)) return fused::linear(x, weight, bias);
  return torch::linear(x, weight, bias);
}

torch::Tensor linear_activate(const torch::Tensor& x, const torch::Tensor& weight,
                              const torch::Tensor& bias, Activation law) {
  if constexpr (fused::available)
    if (fused::fits_rows(x) && fused::fits_law(law))
      return fused::linear_activate(x, weight, bias, law);
  return activate(law, torch::linear(x, weight, bias));
}

torch::Tensor gated_linear(const torch::Tensor& x, const torch::Tensor& gate,
                           const torch::Tensor& up, Activation law) {
  if constexpr (fused::available)
    if (fused::fits_rows(x) && fused::fits_law(law)) return fused::gated_linear(x, gate, up, law);
  return gated_activate(torch::linear(x, gate), torch::linear(x, up), law);
}

Heads project_heads(const torch::Tensor& x, const std::vector<torch::Tensor>& weights,
                    const std::vector<torch::Tensor>& biases, int64_t heads, int64_t kv_heads,
                    const torch::Tensor& cosine, const torch::Tensor& sine) {
  require(x.dim() == 3 && !weights.empty() && weights.size() == biases.size(),
          "project_heads: x {}, {} weights, {} biases; expected [batch, tokens, inputs] and a bias "
          "for each weight",
          shape_text(x.sizes()), weights.size(), biases.size());
  int64_t outputs = 0;
  for (const auto& weight : weights) outputs += weight.size(0);
  const int64_t all_heads = heads + 2 * kv_heads, width = outputs / all_heads;
  require(outputs % all_heads == 0, "project_heads: {} outputs cannot be {} heads", outputs,
          all_heads);
  if constexpr (fused::available)
    if (fused::fits_heads(x, width, cosine))
      return fused::project_heads(x, weights, biases, heads, kv_heads, cosine, sine);
  std::vector<torch::Tensor> parts;
  for (size_t i = 0; i < weights.size(); ++i)
    parts.push_back(torch::linear(x, weights[i], biases[i]));
  const auto all =
      torch::cat(parts, -1).view({x.size(0), x.size(1), all_heads, width}).transpose(1, 2);
  const auto turned = [&](const torch::Tensor& h) {
    if (!cosine.defined()) return h;
    const int64_t half = cosine.size(1);
    const auto low = h.narrow(-1, 0, half), high = h.narrow(-1, half, half);
    const auto c = cosine.to(h.scalar_type()), s = sine.to(h.scalar_type());
    const auto rest = h.narrow(-1, 2 * half, width - 2 * half);
    return torch::cat({low * c - high * s, high * c + low * s, rest}, -1);
  };
  return {turned(all.narrow(1, 0, heads)), turned(all.narrow(1, heads, kv_heads)),
          all.narrow(1, heads + kv_heads, kv_heads)};
}

torch::Tensor bias_activate(const torch::Tensor& pre, const torch::Tensor& bias, Activation law) {
  if constexpr (fused::available)
    if (fused::fits_rows(pre) && fused::fits_law(law)) return fused::bias_activate(pre, bias, law);
  return activate(law, bias.defined() ? pre + bias : pre);
}

torch::Tensor gated_activate(const torch::Tensor& gate, const torch::Tensor& up, Activation law) {
  if constexpr (fused::available)
    if (fused::fits_rows(gate) && fused::fits_rows(up) && fused::fits_law(law))
      return fused::gated_activate(gate, up, law);
  return activate(law, gate) * up;
}

torch::Tensor cross_entropy(const torch::Tensor& logits, const torch::Tensor& targets) {
  require(logits.dim() == 2 && targets.dim() == 1 && logits.size(0) == targets.size(0),
          "cross_entropy: logits {} and targets {}, expected [rows, classes] and [rows]",
          shape_text(logits.sizes()), shape_text(targets.sizes()));
  if constexpr (fused::available)
    if (fused::fits_classes(logits)) return fused::cross_entropy(logits, targets);
  return torch::nll_loss(torch::log_softmax(logits, -1, compute_type(logits)), targets, {},
                         at::Reduction::Mean, /*ignore_index=*/-100);
}

}  // namespace cajal::ops
