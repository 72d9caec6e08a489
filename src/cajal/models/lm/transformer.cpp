#include "cajal/models/lm/transformer.h"

#include "cajal/core/error.h"
#include "cajal/models/lm/block.h"

namespace cajal::lm {
namespace {

void check_ids(const torch::Tensor& ids, const char* what, int64_t count, const char* of) {
  require(ids.dim() == 2 && ids.size(0) > 0 && ids.size(1) > 0,
          "{} are {}, expected [batch, tokens] with at least one token", what,
          shape_text(ids.sizes()));
  if (!ids.is_cpu()) return;  // looking would wait for the device
  const int64_t least = ids.min().item<int64_t>(), most = ids.max().item<int64_t>();
  require(least >= 0 && most < count, "{} hold {}, expected 0 to {} ({})", what,
          least < 0 ? least : most, count - 1, of);
}

// Row of the table of learned positions for each token.
torch::Tensor position_rows(const Config& c, const torch::Tensor& ids, const Pass& pass) {
  const int64_t past = pass.cache ? pass.cache->tokens() : 0, tokens = ids.size(1);
  if (c.position_rule == PositionRule::not_padding) {
    const auto real = ids.ne(c.padding_id).to(torch::kLong);
    return real.cumsum(1) * real + c.padding_id;
  }
  if (c.position_rule == PositionRule::unmasked && pass.mask.defined()) {
    const auto kept = pass.mask.to(ids.device()).ne(0).to(torch::kLong);
    return (kept.cumsum(1) * kept - 1).slice(1, past) + c.position_offset;
  }
  return torch::arange(past, past + tokens, ids.options()) + c.position_offset;
}

torch::Tensor embed_ids(const TransformerImpl& m, const torch::Tensor& ids, const Pass& pass,
                        const Points& at) {
  const Config& c = m.config;
  check_ids(ids, "token ids", c.vocabulary, "the vocabulary");
  const int64_t past = pass.cache ? pass.cache->tokens() : 0;
  require(past + ids.size(1) <= c.context, "{} tokens are more than the context of {} holds",
          past + ids.size(1), c.context);
  auto x = m.embedding.tokens.lookup(ids);
  if (c.embedding_scale != 1) x = x * c.embedding_scale;
  if (m.embedding.project.defined()) x = m.embedding.project.forward(x);
  x = at("hook_embed", x);
  if (c.positions == Positions::learned) {
    auto rows = m.embedding.positions.lookup(position_rows(c, ids, pass));
    if (at.wants("hook_pos_embed")) rows = at("hook_pos_embed", rows.expand_as(x));
    x = x + rows;
  }
  if (c.token_types > 0) {
    const auto types = pass.token_types.defined() ? pass.token_types : torch::zeros_like(ids);
    check_ids(types, "token types", c.token_types, "type_vocab_size");
    require(types.sizes() == ids.sizes(), "token types are {}, expected {} as the ids",
            shape_text(types.sizes()), shape_text(ids.sizes()));
    x = x + at("hook_token_type_embed", m.embedding.token_types.lookup(types));
  }
  if (!c.embedding_norm) return x;
  Stream stream{x, {}};
  return at("hook_full_embed", normalise(c, stream, m.embedding.norm, "embed.ln", at));
}

torch::Tensor embed_pixels(const TransformerImpl& m, const torch::Tensor& pixels,
                           const Points& at) {
  const Config& c = m.config;
  require(pixels.dim() == 4 && pixels.size(0) > 0 && pixels.size(1) == c.channels &&
              pixels.size(2) == c.image_size && pixels.size(3) == c.image_size,
          "pixels are {}, expected [batch, {}, {}, {}]", shape_text(pixels.sizes()), c.channels,
          c.image_size, c.image_size);
  const int64_t side = c.image_size / c.patch_size, batch = pixels.size(0), p = c.patch_size;
  const auto patches = pixels.reshape({batch, c.channels, side, p, side, p})
                           .permute({0, 2, 4, 1, 3, 5})
                           .reshape({batch, side * side, c.channels * p * p});
  std::vector<torch::Tensor> parts;
  for (const auto& token : {m.embedding.class_token, m.embedding.distillation_token})
    if (token.defined()) parts.push_back(token.expand({batch, 1, c.width}));
  parts.push_back(m.embedding.patch.forward(patches));
  const auto x = at("hook_embed", torch::cat(parts, 1));
  auto rows = m.embedding.positions.lookup(
      torch::arange(x.size(1), torch::TensorOptions(pixels.device()).dtype(torch::kLong)));
  if (at.wants("hook_pos_embed")) rows = at("hook_pos_embed", rows.expand_as(x));
  return x + rows;
}

torch::Tensor answer(const TransformerImpl& m, torch::Tensor x, const Points& at) {
  const Config& c = m.config;
  const Output& out = m.output;
  if (out.project.defined()) x = out.project.forward(x);
  x = at("ln_final.hook_out", x);
  torch::Tensor pooled;
  if (out.pooler.defined())
    pooled = at("pooler.hook_pooler_out", torch::tanh(out.pooler.forward(x.select(1, 0))));
  if (out.next_sentence.defined()) at("nsp_head.hook_nsp_out", out.next_sentence.forward(pooled));
  switch (c.head) {
    case Head::none:
      return x;
    case Head::classes: {
      const auto logits = out.classes.forward(pooled.defined() ? pooled : x.select(1, 0));
      if (!out.distillation_classes.defined()) return logits;
      return (logits + out.distillation_classes.forward(x.select(1, 1))) / 2;
    }
    case Head::masked:
      x = activate(c.law, out.transform.forward(x));
      x = ops::norm(x, c.norm, out.transform_norm.weight, out.transform_norm.bias, c.epsilon);
      break;
    case Head::language:
      break;
  }
  const auto logits = out.vocabulary.forward(x);
  return c.logit_cap > 0 ? c.logit_cap * torch::tanh(logits / c.logit_cap) : logits;
}

torch::Tensor finish(const TransformerImpl& m, Stream stream, const Pass& pass, const Points& at) {
  if (pass.last_token_only) {
    const auto last = [](const torch::Tensor& x) { return x.defined() ? x.slice(1, -1) : x; };
    stream = {last(stream.residual), last(stream.delta)};
  }
  const Config& c = m.config;
  return answer(
      m, c.final_norm ? normalise(c, stream, m.output.norm, "ln_final", at) : stream.settle(), at);
}

}  // namespace

TransformerImpl::TransformerImpl(Config c)
    : config(std::move(c)), blocks(static_cast<size_t>(config.layers)) {
  for (auto& block : blocks) block.ffn.groups.resize(1);
}

torch::Tensor TransformerImpl::embed(const torch::Tensor& input, const Pass& pass) {
  const Points at(pass.hooks);
  return config.vision() ? embed_pixels(*this, input, at)
                         : embed_ids(*this, input.to(torch::kLong), pass, at);
}

torch::Tensor TransformerImpl::block(int64_t layer, const torch::Tensor& residual,
                                     const Pass& pass) {
  Shared shared(config, pass, residual.size(1), residual.device());
  Stream stream{residual, {}};
  run_block(layer, blocks[static_cast<size_t>(layer)], stream, shared);
  return stream.settle();
}

torch::Tensor TransformerImpl::unembed(const torch::Tensor& residual, const Pass& pass) {
  return finish(*this, {residual, {}}, pass, Points(pass.hooks));
}

torch::Tensor TransformerImpl::forward(const torch::Tensor& input, const Pass& pass) {
  try {
    Stream stream{embed(input, pass), {}};
    Shared shared(config, pass, stream.residual.size(1), stream.residual.device());
    for (int64_t layer = 0; layer < config.layers; ++layer) {
      if (layer == pass.stop_at_layer) return stream.settle();
      run_block(layer, blocks[static_cast<size_t>(layer)], stream, shared);
    }
    if (pass.cache) pass.cache->advance(stream.residual.size(1));
    if (pass.stop_at_layer == config.layers) return stream.settle();
    return finish(*this, stream, pass, Points(pass.hooks));
  } catch (const Hooks::Stopped& stopped) {
    return stopped.value;
  }
}

void TransformerImpl::forget(int64_t layer) const {
  if (static_cast<size_t>(layer) >= mapped.size()) return;
  for (const auto& stored : mapped[static_cast<size_t>(layer)])
    if (stored.file) stored.file->forget(stored.bytes);
}

}  // namespace cajal::lm
