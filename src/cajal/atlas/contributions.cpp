#include "cajal/atlas/contributions.h"

#include "cajal/atlas/integrated_law.h"
#include "cajal/core/error.h"

namespace cajal::atlas {
namespace {

torch::Tensor or_zeros(const torch::Tensor& bias, int64_t size, const torch::Tensor& like) {
  return bias.defined() ? bias.detach().to(like.options()) : torch::zeros({size}, like.options());
}

// law(pre) of a row, with `gate` and `up` its bias and tokens' pre-activations [tokens or 1, m].
torch::Tensor neurons(const FfnWeights& ffn, const torch::Tensor& gate, const torch::Tensor& up) {
  return ffn.gated ? activate(ffn.law, gate) * up : activate(ffn.law, up);
}

// What the neurons of one row hear: from each token [tokens, m], and from no token [m].
struct Heard {
  torch::Tensor parts, bias;
  torch::Tensor sum() const { return parts.sum(0); }
};

Heard hear(const Contributions& x, int64_t row, const torch::Tensor& weight,
           const torch::Tensor& bias) {
  return {torch::matmul(x.parts[row], weight.t()),
          torch::mv(weight, x.bias[row]) + or_zeros(bias, weight.size(0), weight)};
}

struct Written {
  torch::Tensor parts, bias;  // of the neurons: [tokens, m] and [m]
};

Written plain_neurons(const FfnWeights& ffn, const Heard& key, BiasMode mode) {
  const auto start = mode == BiasMode::inside ? key.bias : torch::zeros_like(key.bias);
  const auto path = mode == BiasMode::inside ? key.sum() : key.sum() + key.bias;
  const auto share = mean_slope(ffn.law, start, path);
  return {key.parts * share,
          mode == BiasMode::inside ? activate(ffn.law, start) : key.bias * share};
}

Written gated_neurons(const FfnWeights& ffn, const Heard& gate, const Heard& key, BiasMode mode) {
  if (mode == BiasMode::inside) {
    const auto shares = gated_shares(ffn.law, gate.bias, gate.sum(), key.bias, key.sum());
    return {gate.parts * shares.gate + key.parts * shares.up,
            activate(ffn.law, gate.bias) * key.bias};
  }
  const auto zero = torch::zeros_like(key.bias);
  const auto shares =
      gated_shares(ffn.law, zero, gate.sum() + gate.bias, zero, key.sum() + key.bias);
  return {gate.parts * shares.gate + key.parts * shares.up,
          gate.bias * shares.gate + key.bias * shares.up};
}

Written numeric_neurons(const FfnWeights& ffn, const Heard& gate, const Heard& key, BiasMode mode,
                        int64_t steps) {
  const bool inside = mode == BiasMode::inside;
  const auto gate_sum = ffn.gated ? gate.sum() : key.sum();
  const auto gate_bias = ffn.gated ? gate.bias : key.bias;
  const auto key_sum = key.sum();
  auto gate_slope = torch::zeros_like(key.bias), key_slope = torch::zeros_like(key.bias);
  for (int64_t k = 0; k < steps; ++k) {
    const double a = (static_cast<double>(k) + 0.5) / static_cast<double>(steps);
    const double b = inside ? 1 : a;
    auto g = (b * gate_bias + a * gate_sum).requires_grad_();
    auto u = (b * key.bias + a * key_sum).requires_grad_();
    const torch::AutoGradMode gradient_on(true);
    const auto slopes = torch::autograd::grad({neurons(ffn, g, u).sum()}, {g, u}, {}, c10::nullopt,
                                              false, /*allow_unused=*/true);
    if (slopes[0].defined()) gate_slope += slopes[0];
    if (slopes[1].defined()) key_slope += slopes[1];
  }
  const auto n = static_cast<double>(steps);
  gate_slope /= n, key_slope /= n;
  auto parts = key.parts * key_slope;
  auto bias = inside ? neurons(ffn, gate_bias, key.bias) : key.bias * key_slope;
  if (ffn.gated) {
    parts = parts + gate.parts * gate_slope;
    if (!inside) bias = bias + gate.bias * gate_slope;
  }
  return {parts, bias};
}

// Row by row, so that the result does not depend on how many rows come together.
template <class Neurons>
Contributions each_row(const Contributions& x, const FfnWeights& ffn, Neurons&& neurons_of) {
  std::vector<torch::Tensor> parts, bias;
  const auto value_bias = or_zeros(ffn.value_bias, ffn.value.size(1), ffn.value);
  for (int64_t row = 0; row < x.parts.size(0); ++row) {
    // Tokens behind the last that gave anything (masked ones) give nothing here either.
    const auto given = x.parts[row].abs().amax(-1).nonzero();
    const int64_t tokens = given.numel() ? given.max().item<int64_t>() + 1 : 1;
    const Contributions some{x.parts.slice(1, 0, tokens), x.bias};
    const auto key = hear(some, row, ffn.key, ffn.key_bias);
    const auto gate = ffn.gated ? hear(some, row, ffn.gate, ffn.gate_bias) : Heard{};
    const Written written = neurons_of(gate, key);
    auto out = torch::zeros({x.parts.size(1), ffn.value.size(1)}, x.parts.options());
    out.slice(0, 0, tokens).copy_(torch::matmul(written.parts, ffn.value));
    parts.push_back(out);
    bias.push_back(torch::mv(ffn.value.t(), written.bias) + value_bias);
  }
  return {torch::stack(parts), torch::stack(bias)};
}

void check_mode(const FfnWeights& ffn, BiasMode mode) {
  require(mode == BiasMode::inside || vanishes_at_zero(ffn.law),
          "bias mode 'token' needs a law that is 0 at 0, and {} is not", to_name(ffn.law));
}

// Each token stands for itself: what head h would write of it, [heads, tokens, width].
torch::Tensor written_by_heads(const torch::Tensor& x, const AttentionWeights& a, bool with_bias) {
  const int64_t share = a.output.size(0) / a.value.size(0);
  auto values = torch::matmul(x.unsqueeze(0), a.value.transpose(1, 2));
  if (with_bias && a.value_bias.defined()) values = values + a.value_bias.unsqueeze(1);
  if (share > 1) values = values.repeat_interleave(share, 0);
  return torch::matmul(values, a.output);
}

}  // namespace

Contributions through_norm(const Contributions& x, lm::NormKind kind, const NormWeights& weights,
                           const torch::Tensor& scale) {
  const auto centred = [&](const torch::Tensor& t) {
    return kind == lm::NormKind::layer ? t - t.mean(-1, /*keepdim=*/true) : t;
  };
  return {centred(x.parts) / scale.unsqueeze(1) * weights.gain,
          centred(x.bias) / scale * weights.gain + weights.shift};
}

Contributions through_ffn(const Contributions& x, const FfnWeights& ffn, BiasMode mode) {
  check_mode(ffn, mode);
  return each_row(x, ffn, [&](const Heard& gate, const Heard& key) {
    return ffn.gated ? gated_neurons(ffn, gate, key, mode) : plain_neurons(ffn, key, mode);
  });
}

Contributions through_ffn_by_taylor(const Contributions& x, const FfnWeights& ffn) {
  return each_row(x, ffn, [&](const Heard& gate, const Heard& key) -> Written {
    const auto up = key.sum() + key.bias;
    if (!ffn.gated) return {key.parts * slope(ffn.law, up), torch::zeros_like(up)};
    const auto open = gate.sum() + gate.bias;
    return {gate.parts * slope(ffn.law, open) * up + key.parts * activate(ffn.law, open),
            torch::zeros_like(up)};
  });
}

Contributions through_ffn_numerically(const Contributions& x, const FfnWeights& ffn, BiasMode mode,
                                      int64_t steps) {
  check_mode(ffn, mode);
  require(steps > 0, "through_ffn_numerically: steps is {}, expected at least 1", steps);
  return each_row(x, ffn, [&](const Heard& gate, const Heard& key) {
    return numeric_neurons(ffn, gate, key, mode, steps);
  });
}

Contributions through_attention(const Contributions& x, const AttentionWeights& a,
                                const torch::Tensor& pattern) {
  const int64_t heads = a.output.size(0), rows = pattern.size(1), width = a.output.size(2);
  require(pattern.dim() == 3 && pattern.size(0) == heads && pattern.size(2) == x.parts.size(0),
          "attention pattern is {}, expected [{}, rows, {}] (heads x rows x tokens)",
          shape_text(pattern.sizes()), heads, x.parts.size(0));
  const bool each_for_itself = x.parts.size(1) == 1;
  // [heads, tokens, sources x width]; bias [heads, tokens, width]
  torch::Tensor sources;
  if (each_for_itself) sources = written_by_heads(x.parts.squeeze(1), a, true);
  const auto bias = written_by_heads(x.bias, a, !each_for_itself);
  std::vector<torch::Tensor> parts, biases;
  for (int64_t row = 0; row < rows; ++row) {
    const auto seen = pattern.select(1, row);  // [heads, tokens]
    if (each_for_itself) {
      parts.push_back(torch::einsum("ht,htd->td", {seen, sources}));
    } else {
      const auto mixed =
          torch::matmul(seen, x.parts.flatten(1)).reshape({heads, -1, x.parts.size(2)});
      auto values = torch::zeros({x.parts.size(1), width}, mixed.options());
      const int64_t share = heads / a.value.size(0);
      for (int64_t h = 0; h < heads; ++h)
        values += torch::matmul(torch::matmul(mixed[h], a.value[h / share].t()), a.output[h]);
      parts.push_back(values);
    }
    biases.push_back(torch::einsum("ht,htd->d", {seen, bias}));
  }
  auto out = torch::stack(biases);
  if (a.output_bias.defined()) out = out + a.output_bias.to(out.options());
  return {torch::stack(parts), out};
}

Contributions add(const Contributions& a, const Contributions& b, int64_t first_row) {
  if (b.parts.size(1) == a.parts.size(1)) return {a.parts + b.parts, a.bias + b.bias};
  require(b.parts.size(1) == 1 && a.parts.size(1) >= first_row + a.parts.size(0),
          "contributions of {} and {} tokens do not add", a.parts.size(1), b.parts.size(1));
  auto parts = a.parts.clone();
  parts.slice(1, first_row, first_row + a.parts.size(0))
      .diagonal(0, 0, 1)
      .add_(b.parts.squeeze(1).t());
  return {parts, a.bias + b.bias};
}

}  // namespace cajal::atlas
