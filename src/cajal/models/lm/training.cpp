#include "cajal/models/lm/training.h"

#include <algorithm>

#include "cajal/core/error.h"
#include "cajal/layers/ops.h"

namespace cajal::lm {
namespace {

// A dense weight as [outputs, inputs].
torch::Tensor by_output(const Matrix& matrix) {
  return matrix.major() == Major::output ? matrix.stored() : matrix.stored().t();
}

bool dense(const Matrix& matrix) { return matrix.defined() && matrix.stored().is_floating_point(); }

bool takes_direct_way(const TransformerImpl& model) {
  const Config& c = model.config;
  const bool plain =
      c.causal && c.head == Head::language && c.norm_place == NormPlace::pre && c.final_norm &&
      !c.parallel_residual && !c.query_key_norm && !c.embedding_norm && c.score_cap == 0 &&
      c.logit_cap == 0 && c.embedding_width == c.width && c.token_types == 0 &&
      c.local_rope.inverse_frequency.empty() && c.rope.long_inverse_frequency.empty() &&
      std::all_of(c.window.begin(), c.window.end(),
                  [&](int64_t window) { return window == 0 || window >= c.context; });
  return plain && dense(model.output.vocabulary.weight) && dense(model.embedding.tokens) &&
         std::all_of(model.blocks.begin(), model.blocks.end(), [](const Block& block) {
           if (block.ffn.groups.size() != 1 || block.ffn.instead || block.ffn.experts ||
               block.attention.fused_by_head)
             return false;
           const NeuronGroup& group = block.ffn.groups[0];
           const bool gated = group.gate.defined();
           return dense(group.key) && dense(group.value) && (!gated || dense(group.gate)) &&
                  !(gated && (group.key_bias.defined() || group.gate_bias.defined()));
         });
}

}  // namespace

TrainingLoss::TrainingLoss(Transformer model)
    : model_(std::move(model)), direct_(takes_direct_way(*model_)) {
  const Rope& rope = model_->config.rope;
  if (!direct_ || rope.inverse_frequency.empty()) return;
  const auto frequency = torch::tensor(rope.inverse_frequency, torch::kDouble).to(torch::kFloat);
  const auto angle = torch::arange(model_->config.context, torch::kFloat).unsqueeze(1) * frequency;
  const auto device = model_->embedding.tokens.stored().device();
  cosine_ = (angle.cos() * rope.attention_factor).to(device);
  sine_ = (angle.sin() * rope.attention_factor).to(device);
}

torch::Tensor TrainingLoss::operator()(const torch::Tensor& ids, const torch::Tensor& targets,
                                       const torch::Tensor& penalty) {
  require(
      ids.dim() == 2 && ids.sizes() == targets.sizes() && ids.size(1) <= model_->config.context,
      "training: ids {} and targets {}, expected the same [batch, tokens] with at most {} tokens",
      shape_text(ids.sizes()), shape_text(targets.sizes()), model_->config.context);
  const auto flat = targets.reshape({-1});
  require(direct_ || !penalty.defined(), "training: this model has no penalty on activations");
  if (penalty.defined()) {
    torch::Tensor activity;
    const auto loss = ops::cross_entropy(logits(ids, &activity), flat);
    return loss + penalty * activity;
  }
  if (direct_) return ops::cross_entropy(logits(ids, nullptr), flat);
  return ops::cross_entropy(model_->forward(ids).flatten(0, 1), flat);
}

torch::Tensor TrainingLoss::feed_forward(const NeuronGroup& group, const torch::Tensor& x,
                                         torch::Tensor* activity) const {
  const Activation law = model_->config.law;
  const auto post = group.gate.defined()
                        ? ops::gated_linear(x, by_output(group.gate), by_output(group.key), law)
                        : ops::linear_activate(x, by_output(group.key), group.key_bias, law);
  if (activity != nullptr) {
    const auto mean = post.abs().mean(torch::kFloat);
    *activity = activity->defined() ? *activity + mean : mean;
  }
  return ops::linear(post, by_output(group.value), {});
}

torch::Tensor TrainingLoss::logits(const torch::Tensor& ids, torch::Tensor* activity) {
  const Config& c = model_->config;
  const int64_t batch = ids.size(0), tokens = ids.size(1);
  auto x = torch::embedding(model_->embedding.tokens.stored(), ids);
  if (c.embedding_scale != 1) x = x * c.embedding_scale;
  if (c.positions == Positions::learned)
    x = x + model_->embedding.positions.stored().narrow(0, c.position_offset, tokens);
  torch::Tensor cosine, sine;
  if (cosine_.defined()) cosine = cosine_.narrow(0, 0, tokens), sine = sine_.narrow(0, 0, tokens);

  // What the last block wrote is added where the next norm reads it; so are the biases.
  torch::Tensor delta, delta_bias;
  const auto normed = [&](const Norm& norm) {
    if (!delta.defined()) return ops::norm(x, c.norm, norm.weight, norm.bias, c.epsilon);
    auto [sum, out] =
        ops::add_norm(x, delta, c.norm, norm.weight, norm.bias, c.epsilon, delta_bias);
    x = sum;
    return out;
  };
  for (int64_t layer = 0; layer < c.layers; ++layer) {
    const Block& block = model_->blocks[static_cast<size_t>(layer)];
    const Attention& a = block.attention;
    std::vector<torch::Tensor> weights, biases;
    for (const Linear* part : {&a.fused, &a.query, &a.key, &a.value})
      if (part->defined()) weights.push_back(by_output(part->weight)), biases.push_back(part->bias);
    const auto heads =
        ops::project_heads(normed(block.norm1), weights, biases, c.heads, c.kv_heads, cosine, sine);
    const double scale =
        c.score_scale / (c.scale_by_inverse_layer ? static_cast<double>(layer + 1) : 1.0);
    const auto attended = attention(heads.q, heads.k, heads.v, {}, /*causal=*/true, scale);
    delta = ops::linear(attended.transpose(1, 2).reshape({batch, tokens, -1}),
                        by_output(a.output.weight), {});
    delta_bias = a.output.bias;
    delta = feed_forward(block.ffn.groups[0], normed(block.norm2), activity);
    delta_bias = block.ffn.value_bias;
  }
  return ops::linear(normed(model_->output.norm).flatten(0, 1),
                     by_output(model_->output.vocabulary.weight), model_->output.vocabulary.bias);
}

}  // namespace cajal::lm
