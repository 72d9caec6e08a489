#include "cajal/atlas/dense.h"

#include <algorithm>

namespace cajal::atlas {
namespace {

torch::Tensor joined(const std::vector<torch::Tensor>& parts) {
  if (parts.empty() || !parts[0].defined()) return {};
  return parts.size() == 1 ? parts[0] : torch::cat(parts);
}

// The rows of a projection as heads: [heads, head width, width] and [heads, head width].
struct Projection {
  torch::Tensor weight, bias;
};
Projection by_head(const lm::Config& c, const torch::Tensor& weight, const torch::Tensor& bias) {
  return {weight.reshape({-1, c.head_width, weight.size(-1)}),
          bias.defined() ? bias.reshape({-1, c.head_width}) : bias};
}

// Queries, keys and values of one stored matrix.
std::array<Projection, 3> unfused(const lm::Config& c, const lm::Attention& a) {
  const auto weight = dense_weight(a.fused.weight), bias = a.fused.bias;
  std::array<Projection, 3> out;
  if (a.fused_by_head) {
    const auto parts = weight.reshape({c.heads, 3, c.head_width, -1});
    for (size_t i = 0; i < 3; ++i) {
      const auto k = static_cast<int64_t>(i);
      out[i].weight = parts.select(1, k);
      if (bias.defined()) out[i].bias = bias.reshape({c.heads, 3, c.head_width}).select(1, k);
    }
    return out;
  }
  int64_t begin = 0;
  for (size_t i = 0; i < 3; ++i) {
    const int64_t rows = (i == 0 ? c.heads : c.kv_heads) * c.head_width;
    out[i] = by_head(c, weight.slice(0, begin, begin + rows),
                     bias.defined() ? bias.slice(0, begin, begin + rows) : bias);
    begin += rows;
  }
  return out;
}

}  // namespace

torch::Tensor dense_weight(const Matrix& matrix) {
  const auto w = matrix.stored().scalar_type() == torch::kDouble ? matrix.stored().detach()
                                                                 : matrix.decoded().detach();
  return matrix.major() == Major::output ? w : w.t();
}

FfnWeights dense_ffn(const lm::Config& c, const lm::FeedForward& ffn) {
  std::vector<torch::Tensor> key, gate, value, key_bias, gate_bias;
  for (const auto& group : ffn.groups) {
    key.push_back(dense_weight(group.key));
    value.push_back(dense_weight(group.value).t());
    key_bias.push_back(group.key_bias);
    gate_bias.push_back(group.gate_bias);
    if (c.gated) gate.push_back(dense_weight(group.gate));
  }
  return {joined(key),       joined(gate),   joined(value), joined(key_bias),
          joined(gate_bias), ffn.value_bias, c.law,         c.gated};
}

AttentionWeights dense_attention(const lm::Config& c, const lm::Attention& a) {
  const auto parts =
      a.fused.defined()
          ? unfused(c, a)
          : std::array<Projection, 3>{by_head(c, dense_weight(a.query.weight), a.query.bias),
                                      by_head(c, dense_weight(a.key.weight), a.key.bias),
                                      by_head(c, dense_weight(a.value.weight), a.value.bias)};
  const auto output = dense_weight(a.output.weight).t().reshape({c.heads, c.head_width, -1});
  return {parts[0].weight, parts[1].weight, parts[2].weight, parts[0].bias,
          parts[1].bias,   parts[2].bias,   output,          a.output.bias};
}

NormWeights dense_norm(const lm::Config& c, const lm::Norm& norm, torch::Dtype type) {
  NormWeights out;
  if (norm.weight.defined())
    out.gain =
        (c.norm == lm::NormKind::rms_one_plus ? norm.weight + 1 : norm.weight).detach().to(type);
  else
    out.gain = torch::ones({c.width}, type);
  out.shift = norm.bias.defined() ? norm.bias.detach().to(type) : torch::zeros({c.width}, type);
  return out;
}

torch::Dtype compute_type(const lm::Transformer& model) {
  return model->embedding.tokens.defined() &&
                 model->embedding.tokens.stored().scalar_type() == torch::kDouble
             ? torch::kDouble
             : torch::kFloat;
}

}  // namespace cajal::atlas
