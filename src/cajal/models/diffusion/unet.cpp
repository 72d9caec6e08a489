#include "cajal/models/diffusion/unet.h"

#include <cmath>

#include "cajal/layers/init.h"
#include "cajal/layers/layer.h"

namespace cajal::diffusion {

using torch::Tensor;
namespace nn = torch::nn;

CrossAttentionImpl::CrossAttentionImpl(const CrossAttentionOptions& o) : options(o) {
  require(
      o.width > 0 && o.context_width > 0 && o.heads > 0 && o.inner > 0 && o.inner % o.heads == 0,
      "cross_attention: width {}, context_width {}, heads {} and inner {} must be positive and "
      "inner a multiple of heads",
      o.width, o.context_width, o.heads, o.inner);
  query = register_parameter("query", init::fan_in_uniform({o.inner, o.width}));
  key = register_parameter("key", init::fan_in_uniform({o.inner, o.context_width}));
  value = register_parameter("value", init::fan_in_uniform({o.inner, o.context_width}));
  output = register_parameter("output", init::fan_in_uniform({o.width, o.inner}));
  output_bias = register_parameter("output_bias", torch::zeros({o.width}));
}

Tensor CrossAttentionImpl::forward(const Tensor& x, const Tensor& context) const {
  require(x.dim() == 3 && x.size(2) == options.width,
          "cross_attention: x is {}, expected [batch, positions, width] with width = {}",
          shape_text(x.sizes()), options.width);
  require(context.dim() == 3 && context.size(0) == x.size(0) &&
              context.size(2) == options.context_width,
          "cross_attention: context is {}, expected [batch, words, context_width] with batch = {}, "
          "context_width = {}",
          shape_text(context.sizes()), x.size(0), options.context_width);
  const int64_t d = options.inner / options.heads;
  const auto heads = [&](const Tensor& rows, const Tensor& weight) {
    return torch::matmul(rows, weight.t())
        .view({rows.size(0), rows.size(1), options.heads, d})
        .transpose(1, 2);
  };
  const auto mixed = attention(heads(x, query), heads(context, key), heads(context, value), {},
                               false, 1 / std::sqrt(static_cast<double>(d)));
  return torch::linear(mixed.transpose(1, 2).flatten(2), output, output_bias);
}

namespace {
nn::Conv2d conv3(int64_t in, int64_t out, int64_t stride = 1) {
  return nn::Conv2d(nn::Conv2dOptions(in, out, 3).padding(1).stride(stride));
}
}  // namespace

ResidualBlockImpl::ResidualBlockImpl(int64_t in, int64_t out, int64_t time, int64_t groups)
    : norm1_(nn::GroupNormOptions(groups, in)),
      norm2_(nn::GroupNormOptions(groups, out)),
      conv1_(conv3(in, out)),
      conv2_(conv3(out, out)),
      time_(time, out) {
  register_module("norm1", norm1_), register_module("norm2", norm2_);
  register_module("conv1", conv1_), register_module("conv2", conv2_);
  register_module("time", time_);
  if (in != out) skip_ = register_module("skip", nn::Conv2d(nn::Conv2dOptions(in, out, 1)));
}

Tensor ResidualBlockImpl::forward(const Tensor& x, const Tensor& time) {
  auto h = conv1_(torch::silu(norm1_(x)));
  h = h + time_(torch::silu(time)).unsqueeze(-1).unsqueeze(-1);
  h = conv2_(torch::silu(norm2_(h)));
  return h + (skip_.is_empty() ? x : skip_(x));
}

Tensor sinusoidal(const Tensor& time, int64_t width) {
  const int64_t half = width / 2;
  const auto place = torch::arange(half, time.options()) / static_cast<double>(half);
  const auto angle = time.unsqueeze(1) * torch::exp(-std::log(10000.0) * place);
  return torch::cat({torch::sin(angle), torch::cos(angle)}, 1);
}

TextToImageImpl::TextToImageImpl(const TextToImageOptions& o) : options(o) {
  require(o.colours > 0 && o.size > 0 && o.blocks > 0 && o.groups > 0 && o.vocabulary > 0 &&
              o.words > 0 && o.time > 1 && o.time % 2 == 0 && o.time_hidden > 0,
          "text_to_image: colours, size, blocks, groups, vocabulary, words and time_hidden must be "
          "positive and time even");
  require(!o.channels.empty(), "text_to_image: channels are empty");
  for (const auto c : o.channels)
    require(c > 0 && c % o.groups == 0, "text_to_image: {} channels in {} groups", c, o.groups);
  require(o.text_width > 0 && o.text_width % o.heads == 0,
          "text_to_image: text_width is {}, expected a multiple of heads = {}", o.text_width,
          o.heads);
  const int64_t width = o.text_width;
  embedding = register_parameter("embedding", 0.3 * torch::randn({o.vocabulary, width}));
  positions_ = register_parameter("positions", 0.1 * torch::randn({o.words, width}));
  const auto norm = [&](const char* name) {
    return register_module(name, nn::LayerNorm(nn::LayerNormOptions({width})));
  };
  text_norm1_ = norm("text_norm1"), text_norm2_ = norm("text_norm2"),
  text_norm3_ = norm("text_norm3");
  text_qkv_ = register_module("text_qkv", nn::Linear(width, 3 * width));
  text_out_ = register_module("text_out", nn::Linear(width, width));
  text_up_ = register_module("text_up", nn::Linear(width, 2 * width));
  text_down_ = register_module("text_down", nn::Linear(2 * width, width));
  time1_ = register_module("time1", nn::Linear(o.time, o.time_hidden));
  time2_ = register_module("time2", nn::Linear(o.time_hidden, o.time_hidden));
  const auto& c = o.channels;
  first_ = register_module("first", conv3(o.colours, c[0]));
  for (size_t l = 0; l < c.size(); ++l) {
    down_.emplace_back();
    for (int64_t b = 0; b < o.blocks; ++b)
      down_[l].push_back(
          stage(fmt::format("down{}_{}", l, b), l > 0 && b == 0 ? c[l - 1] : c[l], c[l], l > 0));
    if (l + 1 < c.size())
      shrink_.push_back(register_module(fmt::format("shrink{}", l), conv3(c[l], c[l], 2)));
  }
  for (size_t l = c.size() - 1; l-- > 0;) {
    grow_.push_back(register_module(fmt::format("grow{}", l), conv3(c[l + 1], c[l])));
    up_.emplace_back();
    for (int64_t b = 0; b < o.blocks; ++b)
      up_.back().push_back(
          stage(fmt::format("up{}_{}", l, b), b == 0 ? 2 * c[l] : c[l], c[l], l > 0));
  }
  last_norm_ = register_module("last_norm", nn::GroupNorm(nn::GroupNormOptions(o.groups, c[0])));
  last_ = register_module("last", conv3(c[0], o.colours));
}

TextToImageImpl::Stage TextToImageImpl::stage(const std::string& name, int64_t in, int64_t out,
                                              bool attends) {
  const auto& o = options;
  Stage s;
  s.residual = register_module(name, ResidualBlock(in, out, o.time_hidden, o.groups));
  if (!attends) return s;
  s.norm = register_module(name + "_norm", nn::GroupNorm(nn::GroupNormOptions(o.groups, out)));
  s.attention =
      register_module(name + "_attention",
                      CrossAttention(CrossAttentionOptions{out, o.text_width, o.heads, o.inner}));
  attentions.push_back(s.attention);
  return s;
}

Tensor TextToImageImpl::run(Stage& s, const Tensor& x, const Tensor& time, const Tensor& context) {
  const auto y = s.residual(x, time);
  if (s.attention.is_empty()) return y;
  const auto positions = s.norm(y).flatten(2).transpose(1, 2);
  return y + s.attention(positions, context).transpose(1, 2).reshape_as(y);
}

Tensor TextToImageImpl::encode(const Tensor& words) {
  require(words.dim() == 2 && words.size(1) == options.words,
          "text_to_image: words are {}, expected [batch, {}]", shape_text(words.sizes()),
          options.words);
  auto x = embedding.index_select(0, words.flatten())
               .view({words.size(0), words.size(1), options.text_width}) +
           positions_;
  const int64_t d = options.text_width / options.heads;
  const auto qkv = text_qkv_(text_norm1_(x))
                       .view({x.size(0), x.size(1), 3, options.heads, d})
                       .permute({2, 0, 3, 1, 4});
  const auto mixed =
      attention(qkv[0], qkv[1], qkv[2], {}, false, 1 / std::sqrt(static_cast<double>(d)));
  x = x + text_out_(mixed.transpose(1, 2).flatten(2));
  x = x + text_down_(torch::silu(text_up_(text_norm2_(x))));
  return text_norm3_(x);
}

Tensor TextToImageImpl::denoise(const Tensor& x, const Tensor& time, const Tensor& context) {
  require(x.dim() == 4 && x.size(1) == options.colours && x.size(2) == options.size &&
              x.size(3) == options.size && time.dim() == 1 && time.size(0) == x.size(0) &&
              context.size(0) == x.size(0),
          "text_to_image: x is {} and time {}, expected [batch, {}, {}, {}] and [batch]",
          shape_text(x.sizes()), shape_text(time.sizes()), options.colours, options.size,
          options.size);
  const auto t = time2_(torch::silu(time1_(sinusoidal(time, options.time))));
  std::vector<Tensor> skips;
  auto h = first_(x);
  for (size_t l = 0; l < down_.size(); ++l) {
    for (auto& s : down_[l]) h = run(s, h, t, context);
    if (l + 1 == down_.size()) break;
    skips.push_back(h);
    h = shrink_[l](h);
  }
  for (size_t i = 0; i < up_.size(); ++i) {
    const auto& skip = skips[skips.size() - 1 - i];
    h = grow_[i](at::upsample_nearest2d(h, {skip.size(2), skip.size(3)}));
    h = torch::cat({h, skip}, 1);
    for (auto& s : up_[i]) h = run(s, h, t, context);
  }
  return last_(torch::silu(last_norm_(h)));
}

Tensor TextToImageImpl::forward(const Tensor& x, const Tensor& time, const Tensor& words) {
  return denoise(x, time, encode(words));
}

namespace {

bool add_attention() {
  layers::Declaration<CrossAttentionOptions> declared;
  declared.example = {.width = 8, .context_width = 6, .heads = 2, .inner = 4};
  declared.inputs = {{"x", "[batch, positions, width]"},
                     {"context", "[batch, words, context_width]"}};
  declared.outputs = {{"y", "[batch, positions, width]"}};
  return layers::add<CrossAttention>("cross_attention",
                                     "multi-head attention from positions to words", declared);
}
bool add_model() {
  layers::Declaration<TextToImageOptions> declared;
  declared.example = {.size = 8,
                      .channels = {4, 4},
                      .blocks = 1,
                      .groups = 2,
                      .time = 4,
                      .time_hidden = 4,
                      .heads = 2,
                      .inner = 4,
                      .vocabulary = 5,
                      .words = 3,
                      .text_width = 4};
  declared.inputs = {{"x", "[batch, colours, size, size]"},
                     {"time", "[batch]"},
                     {"word_ids", "[batch, words]", "vocabulary"}};
  declared.outputs = {{"noise", "[batch, colours, size, size]"}};
  return layers::add<TextToImage>(
      "text_to_image", "U-Net with cross-attention to a caption, predicts noise", declared);
}
const auto registered = add_attention() && add_model();

}  // namespace
}  // namespace cajal::diffusion
