#include "cajal/models/lm/block.h"

#include "cajal/layers/ffn/experts.h"

namespace cajal::lm {
namespace {

torch::Tensor join(const std::vector<torch::Tensor>& parts) {
  return parts.size() == 1 ? parts[0] : torch::cat(parts, -1);
}

torch::Tensor hooked_norm(const Config& c, const torch::Tensor& x, const Norm& norm,
                          const std::string& name, const Points& at) {
  const auto centred = c.norm == NormKind::layer ? x - x.mean(-1, /*keepdim=*/true) : x;
  const auto scale =
      at(name + ".hook_scale", (centred.square().mean(-1, /*keepdim=*/true) + c.epsilon).sqrt());
  auto y = at(name + ".hook_normalized", centred / scale);
  if (norm.weight.defined())
    y = y * (c.norm == NormKind::rms_one_plus ? norm.weight + 1 : norm.weight);
  return norm.bias.defined() ? y + norm.bias : y;
}

torch::Tensor plain_norm(const Config& c, const torch::Tensor& x, const Norm& norm) {
  return ops::norm(x, c.norm, norm.weight, norm.bias, c.epsilon);
}

// Of the activations of each token, those of the experts that it uses.
torch::Tensor used(const Config& c, const FeedForward& ffn, const torch::Tensor& x,
                   const torch::Tensor& post) {
  if (!ffn.experts) return post;
  const auto& e = *ffn.experts;
  const auto scores = e.router == RouterKind::oracle
                          ? experts::gains(post, e.count, c.gated)
                          : experts::router_scores(e.router, e.first, e.second, x);
  return experts::keep(post, experts::best(scores, e.active));
}

// The neuron activations with every point between shown: concatenated over groups.
torch::Tensor hooked_neurons(const Config& c, const FeedForward& ffn, const torch::Tensor& x,
                             const Points& at) {
  std::vector<torch::Tensor> keys, gates;
  for (const auto& group : ffn.groups) {
    keys.push_back(group.key.apply(x, group.key_bias));
    if (c.gated) gates.push_back(group.gate.apply(x, group.gate_bias));
  }
  if (!c.gated)
    return at("mlp.hook_post", used(c, ffn, x, activate(c.law, at("mlp.hook_pre", join(keys)))));
  const auto gate = activate(c.law, at("mlp.hook_pre", join(gates)));
  return at("mlp.hook_post", used(c, ffn, x, gate * at("mlp.hook_pre_linear", join(keys))));
}

torch::Tensor plain_neurons(const Config& c, const NeuronGroup& group, const torch::Tensor& x) {
  if (!c.gated) return ops::bias_activate(group.key.apply(x), group.key_bias, c.law);
  return ops::gated_activate(group.gate.apply(x, group.gate_bias),
                             group.key.apply(x, group.key_bias), c.law);
}

}  // namespace

torch::Tensor Linear::forward(const torch::Tensor& x) const { return weight.apply(x, bias); }

const torch::Tensor& Stream::settle() {
  if (delta.defined()) {
    residual = residual + delta;
    delta.reset();
  }
  return residual;
}

torch::Tensor normalise(const Config& c, Stream& stream, const Norm& norm, const std::string& name,
                        const Points& at) {
  if (at.wants(name + ".hook_scale") || at.wants(name + ".hook_normalized"))
    return hooked_norm(c, stream.settle(), norm, name, at);
  if (!stream.delta.defined()) return plain_norm(c, stream.residual, norm);
  auto [sum, normed] =
      ops::add_norm(stream.residual, stream.delta, c.norm, norm.weight, norm.bias, c.epsilon);
  stream = {sum, {}};
  return normed;
}

torch::Tensor feed_forward(const Config& c, const FeedForward& ffn, const torch::Tensor& x,
                           const Points& at) {
  if (ffn.instead) return ffn.instead(x);
  const bool hooked =
      at.wants("mlp.hook_pre") || at.wants("mlp.hook_post") || at.wants("mlp.hook_pre_linear");
  const auto all = hooked ? hooked_neurons(c, ffn, x, at) : torch::Tensor();
  torch::Tensor y;
  int64_t begin = 0;
  for (const auto& group : ffn.groups) {
    const auto post = hooked ? all.narrow(-1, begin, group.neurons())
                             : used(c, ffn, x, plain_neurons(c, group, x));
    begin += group.neurons();
    const bool last = &group == &ffn.groups.back();
    const auto part = group.value.apply(post, last ? ffn.value_bias : torch::Tensor());
    y = y.defined() ? y + part : part;
  }
  return y;
}

namespace {

// x + attention(norm x), then the same with the feed-forward network; or both read the same x.
void run_pre_norm(int64_t layer, const Block& block, Stream& stream, Shared& shared,
                  const Points& at) {
  const Config& c = shared.config;
  const bool both = c.norm_place == NormPlace::both;
  auto normed = normalise(c, stream, block.norm1, "ln1", at);
  auto attended = attend(layer, block.attention, normed, shared, at);
  if (both) {
    Stream out{attended, {}};
    attended = normalise(c, out, block.norm1_after, "ln1_post", at);
  }
  attended = at("hook_attn_out", attended);
  if (!c.parallel_residual) {
    stream.delta = attended;
    if (at.wants("hook_resid_mid")) stream = {at("hook_resid_mid", stream.settle()), {}};
  }
  if (at.wants("hook_mlp_in")) {
    Stream read{at("hook_mlp_in", stream.settle()), {}};
    normed = normalise(c, read, block.norm2, "ln2", at);
  } else {
    normed = normalise(c, stream, block.norm2, "ln2", at);
  }
  auto fed = feed_forward(c, block.ffn, normed, at);
  if (both) {
    Stream out{fed, {}};
    fed = normalise(c, out, block.norm2_after, "ln2_post", at);
  }
  fed = at("hook_mlp_out", fed);
  stream.delta = c.parallel_residual ? attended + fed : fed;
  if (at.wants("hook_resid_post")) stream = {at("hook_resid_post", stream.settle()), {}};
}

// norm(x + attention(x)), then the same with the feed-forward network.
void run_post_norm(int64_t layer, const Block& block, Stream& stream, Shared& shared,
                   const Points& at) {
  const Config& c = shared.config;
  stream.delta = at("hook_attn_out", attend(layer, block.attention, stream.settle(), shared, at));
  if (at.wants("hook_resid_mid") || at.wants("hook_mlp_in"))
    stream = {at("hook_mlp_in", at("hook_resid_mid", stream.settle())), {}};
  stream = {normalise(c, stream, block.norm1, "ln1", at), {}};
  stream.delta = at("hook_mlp_out", feed_forward(c, block.ffn, stream.residual, at));
  if (at.wants("hook_resid_post")) stream = {at("hook_resid_post", stream.settle()), {}};
  stream = {at("hook_normalized_resid_post", normalise(c, stream, block.norm2, "ln2", at)), {}};
}

}  // namespace

void run_block(int64_t layer, const Block& block, Stream& stream, Shared& shared) {
  const Points at(shared.hooks, fmt::format("blocks.{}.", layer));
  if (at.wants("hook_resid_pre")) stream = {at("hook_resid_pre", stream.settle()), {}};
  if (shared.config.norm_place == NormPlace::post) {
    run_post_norm(layer, block, stream, shared, at);
  } else {
    run_pre_norm(layer, block, stream, shared, at);
  }
}

}  // namespace cajal::lm
