#include <cmath>

#include "cajal/core/error.h"
#include "cajal/models/lm/block.h"

namespace cajal::lm {

torch::Tensor repeat_heads(const torch::Tensor& x, int64_t times) {
  if (times == 1) return x;
  const auto s = x.sizes();
  return x.unsqueeze(2)
      .expand({s[0], s[1], times, s[2], s[3]})
      .reshape({s[0], s[1] * times, s[2], s[3]});
}
namespace {

struct Heads {
  torch::Tensor q, k, v;  // [batch, tokens, heads, head_width]
};

Heads project(const Config& c, const Attention& a, const torch::Tensor& x) {
  const int64_t batch = x.size(0), tokens = x.size(1), d = c.head_width;
  const auto heads = [&](const torch::Tensor& t) { return t.reshape({batch, tokens, -1, d}); };
  if (!a.fused.defined())
    return {heads(a.query.forward(x)), heads(a.key.forward(x)), heads(a.value.forward(x))};
  const auto all = a.fused.forward(x);
  if (a.fused_by_head) {
    const auto parts = all.reshape({batch, tokens, c.heads, 3, d}).unbind(3);
    return {parts[0], parts[1], parts[2]};
  }
  const auto parts =
      all.split_with_sizes({c.heads * d, c.kv_heads * d, c.kv_heads * d}, /*dim=*/-1);
  return {heads(parts[0]), heads(parts[1]), heads(parts[2])};
}

torch::Tensor head_norm(const Config& c, const torch::Tensor& x, const Norm& norm) {
  return ops::norm(x, c.norm, norm.weight, norm.bias, c.epsilon);
}

// Turns pairs (i, i + half) of the first rotated dimensions; the rest pass.
torch::Tensor rotate(const torch::Tensor& x, const Shared::Rotation& rotation) {
  const int64_t half = rotation.cos.size(-1), width = x.size(-1);
  const auto a = x.narrow(-1, 0, half), b = x.narrow(-1, half, half);
  std::vector<torch::Tensor> parts{a * rotation.cos - b * rotation.sin,
                                   b * rotation.cos + a * rotation.sin};
  if (2 * half < width) parts.push_back(x.narrow(-1, 2 * half, width - 2 * half));
  return torch::cat(parts, -1);
}

// Attention with its scores and pattern shown to hooks, or capped.
torch::Tensor open_attention(const Config& c, const torch::Tensor& q, const torch::Tensor& k,
                             const torch::Tensor& v, const torch::Tensor& bias, double scale,
                             const Points& at) {
  auto scores = torch::matmul(q, k.transpose(-1, -2)) * scale;
  if (c.score_cap > 0) scores = c.score_cap * torch::tanh(scores / c.score_cap);
  if (bias.defined()) scores = scores + bias;
  const auto pattern = torch::softmax(at("attn.hook_attn_scores", scores), -1);
  return torch::matmul(at("attn.hook_pattern", pattern), v);
}

// What each head writes, [batch, tokens, heads, width].
torch::Tensor head_results(const Config& c, const Matrix& output, const torch::Tensor& z) {
  const auto stored = output.decoded().to(z.scalar_type());
  const auto by_input = output.major() == Major::input ? stored : stored.t();  // [heads d, width]
  const auto weights = by_input.reshape({c.heads, c.head_width, c.width});
  return torch::matmul(z.permute({2, 0, 1, 3}).flatten(1, 2), weights)
      .reshape({c.heads, z.size(0), z.size(1), c.width})
      .permute({1, 2, 0, 3});
}

torch::Tensor write_out(const Config& c, const Linear& output, const torch::Tensor& z,
                        const Points& at) {
  if (!at.wants("attn.hook_result")) return output.forward(z.flatten(2));
  const auto sum = at("attn.hook_result", head_results(c, output.weight, z)).sum(2);
  return output.bias.defined() ? sum + output.bias : sum;
}

}  // namespace

torch::Tensor attend(int64_t layer, const Attention& a, const torch::Tensor& x, Shared& shared,
                     const Points& at) {
  const Config& c = shared.config;
  auto [q, k, v] = project(c, a, x);
  q = at("attn.hook_q", q), k = at("attn.hook_k", k), v = at("attn.hook_v", v);
  if (c.query_key_norm) q = head_norm(c, q, a.query_norm), k = head_norm(c, k, a.key_norm);
  if (c.positions == Positions::rotary) {
    const auto& rotation = shared.rotation(layer);
    q = at("attn.hook_rot_q", rotate(q, rotation));
    k = at("attn.hook_rot_k", rotate(k, rotation));
  }
  q = q.transpose(1, 2), k = k.transpose(1, 2), v = v.transpose(1, 2);
  int64_t first = 0;
  if (shared.cache) {
    const auto view = shared.cache->append(layer, k, v);
    k = view.k, v = view.v, first = view.first;
  }
  const double scale =
      c.score_scale / (c.scale_by_inverse_layer ? static_cast<double>(layer + 1) : 1.0);
  const bool open =
      c.score_cap > 0 || at.wants("attn.hook_attn_scores") || at.wants("attn.hook_pattern");
  const auto seen = shared.visibility(layer, first, k.size(2), open);
  const int64_t share = c.heads / c.kv_heads;
  torch::Tensor z;
  if (open) {
    z = open_attention(c, q, repeat_heads(k, share), repeat_heads(v, share), seen.bias, scale, at);
  } else if (share > 1 && q.size(2) == 1) {
    // One token: the query heads of a key head take the place of queries, and no key is copied.
    const auto grouped = q.reshape({q.size(0), c.kv_heads, share, c.head_width});
    z = attention(grouped, k, v, seen.bias, false, scale).reshape(q.sizes());
  } else {
    z = attention(q, repeat_heads(k, share), repeat_heads(v, share), seen.bias, seen.causal, scale);
  }
  return write_out(c, a.output, at("attn.hook_z", z.transpose(1, 2)), at);
}

namespace {

Shared::Rotation turn(const Rope& rope, int64_t past, int64_t tokens, torch::Device device) {
  if (rope.inverse_frequency.empty()) return {};
  const bool far = !rope.long_inverse_frequency.empty() && past + tokens > rope.original_context;
  const auto frequency =
      torch::tensor(far ? rope.long_inverse_frequency : rope.inverse_frequency, torch::kDouble)
          .to(torch::kFloat);
  const auto angle = torch::arange(past, past + tokens, torch::kFloat).unsqueeze(1) * frequency;
  const auto part = [&](const torch::Tensor& t) {
    return (rope.attention_factor == 1 ? t : t * rope.attention_factor).unsqueeze(1).to(device);
  };
  return {part(angle.cos()), part(angle.sin())};
}

}  // namespace

void check_pass(const Config& c, const Pass& pass, int64_t batch, int64_t tokens) {
  const int64_t all = tokens + (pass.cache ? pass.cache->tokens() : 0);
  require(all <= c.context, "{} tokens are more than the context of {} holds", all, c.context);
  if (!pass.mask.defined()) return;
  require(pass.mask.sizes() == torch::IntArrayRef({batch, all}),
          "attention_mask is {}, expected [{}, {}]", shape_text(pass.mask.sizes()), batch, all);
}

Shared::Shared(const Config& c, const Pass& pass, const torch::Tensor& residual)
    : config(c),
      hooks(pass.hooks),
      cache(pass.cache),
      past(pass.cache ? pass.cache->tokens() : 0),
      tokens(residual.size(1)),
      device_(residual.device()) {
  check_pass(c, pass, residual.size(0), tokens);
  if (pass.mask.defined()) {
    mask_ = pass.mask.to(device_).ne(0);
    if (mask_.all().item<bool>()) mask_.reset();
  }
  global_ = turn(c.rope, past, tokens, device_);
  local_ = turn(c.local_rope, past, tokens, device_);
}

const Shared::Rotation& Shared::rotation(int64_t layer) const {
  const bool local = local_.cos.defined() && config.window[static_cast<size_t>(layer)] > 0;
  return local ? local_ : global_;
}

Shared::Visibility Shared::visibility(int64_t layer, int64_t first, int64_t keys,
                                      bool spelled_out) {
  const int64_t window = config.window[static_cast<size_t>(layer)];
  const bool ends = config.causal && window > 0 && past + tokens - first > window;
  const bool causal = config.causal && tokens > 1;
  if (!mask_.defined() && !ends && !causal) return {};
  if (!mask_.defined() && !ends && keys == tokens && !spelled_out) return {{}, true};
  auto& kept = biases_[{ends ? window : 0, first, keys}];
  if (!kept.defined()) kept = bias(ends ? window : 0, first, keys);
  return {kept, false};
}

torch::Tensor Shared::bias(int64_t window, int64_t first, int64_t keys) const {
  const auto options = torch::TensorOptions(device_).dtype(torch::kLong);
  auto visible = torch::ones({1, 1, 1, keys}, options.dtype(torch::kBool));
  if (config.causal) {
    const auto key = torch::arange(first, first + keys, options);
    const auto query = torch::arange(past, past + tokens, options).unsqueeze(1);
    visible = visible & key.le(query);
    if (window > 0) visible = visible & key.gt(query - window);
  }
  if (mask_.defined())
    visible = visible & mask_.slice(1, first, first + keys).unsqueeze(1).unsqueeze(1);
  // A padding token that sees nothing would turn into NaN and spread: it sees everything instead.
  visible = visible | visible.any(-1, /*keepdim=*/true).logical_not();
  return torch::zeros(visible.sizes(), options.dtype(torch::kFloat))
      .masked_fill_(visible.logical_not(), -INFINITY);
}

}  // namespace cajal::lm
