#include "cajal/layers/ops.h"

#include "cajal/core/error.h"

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
                                                 const torch::Tensor& bias, double epsilon) {
  auto sum = x + delta;
  auto normed = norm(sum, kind, weight, bias, epsilon);
  return {std::move(sum), std::move(normed)};
}

torch::Tensor bias_activate(const torch::Tensor& pre, const torch::Tensor& bias, Activation law) {
  return activate(law, bias.defined() ? pre + bias : pre);
}

torch::Tensor gated_activate(const torch::Tensor& gate, const torch::Tensor& up, Activation law) {
  return activate(law, gate) * up;
}

torch::Tensor cross_entropy(const torch::Tensor& logits, const torch::Tensor& targets) {
  require(logits.dim() == 2 && targets.dim() == 1 && logits.size(0) == targets.size(0),
          "cross_entropy: logits {} and targets {}, expected [rows, classes] and [rows]",
          shape_text(logits.sizes()), shape_text(targets.sizes()));
  return torch::nll_loss(torch::log_softmax(logits, -1, compute_type(logits)), targets, {},
                         at::Reduction::Mean, /*ignore_index=*/-100);
}

}  // namespace cajal::ops
