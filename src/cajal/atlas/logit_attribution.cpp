#include "cajal/atlas/logit_attribution.h"

#include "cajal/atlas/dense.h"
#include "cajal/atlas/integrated_law.h"
#include "cajal/core/error.h"

namespace cajal::atlas {
namespace {

using lm::NormPlace;

// Walks from the logits down. `direction` [batch, tokens, width] is the gradient of the logit at
// the present place of the residual stream with every norm's scale held: what a part writes there,
// times it, is what the part adds to the logit.
class Walk {
 public:
  Walk(const lm::Transformer& model, const Run& run, LogitParts parts)
      : model_(model), c_(model->config), values_(run.values), how_(parts) {}

  LogitAttribution run(const torch::Tensor& targets, const torch::Tensor& others,
                       const torch::Tensor& logits) {
    start_at_logits(targets, others, logits);
    for (int64_t layer = c_.layers - 1; layer >= 0; --layer) {
      const auto& block = model_->blocks[static_cast<size_t>(layer)];
      const auto prefix = fmt::format("blocks.{}.", layer);
      const bool post = c_.norm_place == NormPlace::post;
      if (post) through_norm(block.norm2, prefix + "ln2");
      feed_forward(block, prefix);
      if (post) through_norm(block.norm1, prefix + "ln1");
      attention(block, prefix);
    }
    embeddings();
    add("norms", shifts_);
    return std::move(out_);
  }

 private:
  const torch::Tensor& at(const std::string& name) const { return values_.at(name); }
  void add(const std::string& name, const torch::Tensor& values) {
    out_.parts.push_back({name, values});
  }
  torch::Tensor along(const torch::Tensor& written) const { return (written * direction_).sum(-1); }
  torch::Tensor along_vector(const torch::Tensor& vector) const {
    return torch::matmul(direction_, vector.detach().to(direction_.scalar_type()));
  }
  torch::Tensor as(const torch::Tensor& t) const { return t.detach().to(direction_.scalar_type()); }

  // The direction before a norm from the one after it, and what the norm's shift adds.
  torch::Tensor before_norm(const lm::Norm& norm, const torch::Tensor& scale) {
    const auto weights = dense_norm(c_, norm, direction_.scalar_type());
    shifts_ = shifts_ + along_vector(weights.shift);
    const auto scaled = direction_ * weights.gain / scale;
    return c_.norm == lm::NormKind::layer ? scaled - scaled.mean(-1, /*keepdim=*/true) : scaled;
  }
  void through_norm(const lm::Norm& norm, const std::string& name) {
    direction_ = before_norm(norm, at(name + ".hook_scale"));
  }
  void through_linear(const lm::Linear& linear, const std::string& name) {
    if (linear.bias.defined()) add(name + ".bias", along_vector(linear.bias));
    direction_ = torch::matmul(direction_, dense_weight(linear.weight));
  }

  void start_at_logits(const torch::Tensor& targets, const torch::Tensor& others,
                       const torch::Tensor& logits) {
    const auto& out = model_->output;
    const auto rows = [&](const torch::Tensor& ids) {
      const auto shape = ids.sizes().vec();
      auto taken = dense_weight(out.vocabulary.weight).index_select(0, ids.reshape(-1));
      return taken.reshape({shape[0], shape[1], -1});
    };
    const auto picked = [&](const torch::Tensor& all) {  // [.., vocabulary] at the targets
      auto one = all.gather(-1, targets.unsqueeze(-1)).squeeze(-1);
      return others.defined() ? one - all.gather(-1, others.unsqueeze(-1)).squeeze(-1) : one;
    };
    direction_ = rows(targets);
    if (others.defined()) direction_ = direction_ - rows(others);
    const auto cap = c_.logit_cap;
    out_.logits = picked(cap > 0 ? cap * torch::atanh(logits / cap) : logits);
    shifts_ = torch::zeros_like(out_.logits);
    if (out.vocabulary.bias.defined())
      add("unembed.bias", picked(as(out.vocabulary.bias).expand_as(logits)));
    if (c_.head == lm::Head::masked) masked_head();
    if (out.project.defined()) through_linear(out.project, "unembed.project");
    if (c_.final_norm) through_norm(out.norm, "ln_final");
  }

  // transform -> law -> norm, from the hidden state that entered it.
  void masked_head() {
    const auto& out = model_->output;
    const auto pre = out.transform.forward(at("ln_final.hook_out"));
    const auto x = activate(c_.law, pre);
    const auto centred = c_.norm == lm::NormKind::layer ? x - x.mean(-1, true) : x;
    const auto scale = (centred.square().mean(-1, true) + c_.epsilon).sqrt();
    direction_ = before_norm(out.transform_norm, scale);
    direction_ = direction_ * mean_slope(c_.law, torch::zeros_like(pre), pre);
    through_linear(out.transform, "head.transform");
  }

  void feed_forward(const lm::Block& block, const std::string& prefix) {
    const auto kept = direction_;
    if (how_ != LogitParts::neurons) {
      add(prefix + "mlp", along(at(prefix + "hook_mlp_out")));
      return;
    }
    if (c_.norm_place == NormPlace::both) through_norm(block.norm2_after, prefix + "ln2_post");
    const auto ffn = dense_ffn(c_, block.ffn);
    add(prefix + "mlp.neurons",
        at(prefix + "mlp.hook_post") * torch::matmul(direction_, ffn.value.t()));
    if (ffn.value_bias.defined()) add(prefix + "mlp.bias", along_vector(ffn.value_bias));
    direction_ = kept;
  }

  void attention(const lm::Block& block, const std::string& prefix) {
    const auto kept = direction_;
    if (how_ == LogitParts::layers) {
      add(prefix + "attn", along(at(prefix + "hook_attn_out")));
      return;
    }
    if (c_.norm_place == NormPlace::both) through_norm(block.norm1_after, prefix + "ln1_post");
    const auto weights = dense_attention(c_, block.attention);
    const auto per_head = torch::einsum("btd,nhd->btnh", {direction_, weights.output});
    add(prefix + "attn.heads", (at(prefix + "attn.hook_z") * per_head).sum(-1));
    if (weights.output_bias.defined()) add(prefix + "attn.bias", along_vector(weights.output_bias));
    direction_ = kept;
  }

  void embeddings() {
    if (c_.embedding_norm) through_norm(model_->embedding.norm, "embed.ln");
    add("embed", along(at("hook_embed")));
    if (values_.count("hook_pos_embed")) add("pos_embed", along(at("hook_pos_embed")));
    if (values_.count("hook_token_type_embed"))
      add("token_type_embed", along(at("hook_token_type_embed")));
  }

  const lm::Transformer& model_;
  const lm::Config& c_;
  const Recording& values_;
  const LogitParts how_;
  torch::Tensor direction_, shifts_;
  LogitAttribution out_;
};

}  // namespace

const torch::Tensor& LogitAttribution::at(std::string_view name) const {
  std::vector<std::string> names;
  for (const auto& part : parts) {
    if (part.name == name) return part.values;
    names.push_back(part.name);
  }
  fail("logit attribution has no part '{}', only {}", name, fmt::join(names, ", "));
}

torch::Tensor LogitAttribution::sum() const {
  auto total = torch::zeros_like(logits);
  for (const auto& part : parts)
    total = total + (part.values.dim() == 3 ? part.values.sum(-1) : part.values);
  return total;
}

LogitAttribution direct_logit_attribution(lm::Transformer& model, const torch::Tensor& input,
                                          const torch::Tensor& targets, LogitParts parts,
                                          const torch::Tensor& others, lm::Pass pass) {
  const auto& c = model->config;
  require(c.head == lm::Head::language || c.head == lm::Head::masked,
          "direct_logit_attribution: this {} model has no vocabulary to write to",
          to_name(c.family));
  for (const auto& ids : {targets, others})
    require(!ids.defined() || ids.sizes() == input.sizes(),
            "direct_logit_attribution: targets are {}, expected {} as the input",
            shape_text(ids.sizes()), shape_text(input.sizes()));
  const torch::NoGradGuard no_grad;
  std::vector<std::string> points{"hook_embed", "*.hook_scale", "blocks.*.hook_mlp_out",
                                  "blocks.*.hook_attn_out", "ln_final.hook_out"};
  if (c.positions == lm::Positions::learned) points.push_back("hook_pos_embed");
  if (c.token_types > 0) points.push_back("hook_token_type_embed");
  if (parts != LogitParts::layers) points.push_back("blocks.*.attn.hook_z");
  if (parts == LogitParts::neurons) points.push_back("blocks.*.mlp.hook_post");
  const auto run = record(model, input, points, pass);
  return Walk(model, run, parts).run(targets, others, run.output);
}

torch::Tensor folded_unembedding(const lm::Transformer& model) {
  const auto& c = model->config;
  const auto& out = model->output;
  require(c.head == lm::Head::language, "folded_unembedding: this {} model has no language head",
          to_name(c.family));
  auto rows = dense_weight(out.vocabulary.weight);
  if (out.project.defined()) rows = torch::matmul(rows, dense_weight(out.project.weight));
  if (!c.final_norm) return rows;
  rows = rows * dense_norm(c, out.norm, rows.scalar_type()).gain;
  return c.norm == lm::NormKind::layer ? rows - rows.mean(-1, /*keepdim=*/true) : rows;
}

}  // namespace cajal::atlas
