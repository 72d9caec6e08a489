#include "cajal/models/vision/block_net.h"

#include <algorithm>
#include <cmath>

#include "cajal/layers/vision/residual.h"

namespace cajal::vision {
namespace {

template <class Holder>
Block block(const Holder& layer, int64_t channels) {
  return {layer.ptr(),
          [module = layer.ptr()](const torch::Tensor& x) { return module->forward(x); }, channels};
}

Block conv(const ConvNormOptions& options) { return block(ConvNorm(options), options.outputs); }

std::vector<Block> resnet18(const BlockNetOptions& o) {
  const auto width = [&](int64_t full) {
    return std::max<int64_t>(1, std::llround(static_cast<double>(full) * o.width));
  };
  int64_t below = width(64);
  std::vector<Block> out{conv({.inputs = o.channels, .outputs = below})};
  for (const int64_t full : {64, 128, 256, 512})
    for (const bool first : {true, false}) {
      const auto channels = width(full);
      const int64_t stride = first && full > 64 ? 2 : 1;
      if (o.partition == Partition::layers) {
        out.push_back(conv({.inputs = below, .outputs = channels, .stride = stride}));
        out.push_back(conv({.inputs = channels, .outputs = channels}));
      } else {
        out.push_back(
            block(ResidualBlock(ResidualBlockOptions{below, channels, stride}), channels));
      }
      below = channels;
    }
  return out;
}

std::vector<Block> mobilenet_v3_small(const BlockNetOptions& o) {
  struct Row {
    int64_t kernel, expanded, outputs;
    bool squeeze;
    Activation law;
    int64_t stride;
  };
  constexpr auto re = Activation::relu, hs = Activation::hard_swish;
  const Row rows[] = {
      {3, 16, 16, true, re, 2},  {3, 72, 24, false, re, 2}, {3, 88, 24, false, re, 1},
      {5, 96, 40, true, hs, 2},  {5, 240, 40, true, hs, 1}, {5, 240, 40, true, hs, 1},
      {5, 120, 48, true, hs, 1}, {5, 144, 48, true, hs, 1}, {5, 288, 96, true, hs, 2},
      {5, 576, 96, true, hs, 1}, {5, 576, 96, true, hs, 1}};
  const auto width = [&](int64_t full) {
    return round_channels(static_cast<double>(full) * o.width);
  };
  const auto normed = [](ConvNormOptions c) {
    c.epsilon = 1e-3, c.momentum = 0.01;
    return c;
  };
  int64_t below = width(16);
  std::vector<Block> out{conv(normed({.inputs = o.channels, .outputs = below, .law = hs}))};
  for (const auto& row : rows) {
    const auto expanded = width(row.expanded), outputs = width(row.outputs);
    if (o.partition == Partition::layers) {
      out.push_back(conv(normed({below, expanded, 1, 1, 1, row.law})));
      out.push_back(conv(normed({expanded, expanded, row.kernel, row.stride, expanded, row.law})));
      out.push_back(conv(normed({expanded, outputs, 1, 1, 1, Activation::identity})));
    } else {
      out.push_back(
          block(InvertedResidual(InvertedResidualOptions{below, outputs, expanded, row.kernel,
                                                         row.stride, row.squeeze, row.law}),
                outputs));
    }
    below = outputs;
  }
  out.push_back(conv(normed({below, width(576), 1, 1, 1, hs})));
  return out;
}

std::vector<Block> plain_cnn(const BlockNetOptions& o) {
  std::vector<Block> out;
  int64_t below = o.channels;
  for (int64_t l = 0; l < 6; ++l) {
    const auto channels =
        std::max<int64_t>(1, std::llround(static_cast<double>(32 << (l / 2)) * o.width));
    out.push_back(conv({.inputs = below, .outputs = channels, .stride = l % 2 == 1 ? 2 : 1}));
    below = channels;
  }
  return out;
}

}  // namespace

std::vector<Block> block_net(const BlockNetOptions& o) {
  require(o.channels > 0 && o.width > 0,
          "block net: channels and width must be positive, got {} and {}", o.channels, o.width);
  auto blocks = o.net == Net::resnet18             ? resnet18(o)
                : o.net == Net::mobilenet_v3_small ? mobilenet_v3_small(o)
                                                   : plain_cnn(o);
  if (o.partition != Partition::whole) return blocks;
  struct All : torch::nn::Module {};
  auto all = std::make_shared<All>();
  for (size_t i = 0; i < blocks.size(); ++i)
    all->register_module(fmt::format("block{}", i), blocks[i].module);
  const auto channels = blocks.back().channels;
  const auto forward = [blocks](const torch::Tensor& x) {
    auto h = x;
    for (const auto& b : blocks) h = b.forward(h);
    return h;
  };
  return {Block{all, forward, channels}};
}

std::vector<torch::Tensor> parameters(const std::vector<Block>& blocks) {
  std::vector<torch::Tensor> out;
  for (const auto& b : blocks)
    for (const auto& parameter : b.module->parameters()) out.push_back(parameter);
  return out;
}

}  // namespace cajal::vision
