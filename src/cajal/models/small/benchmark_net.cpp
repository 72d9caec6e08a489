#include "cajal/models/small/benchmark_net.h"

#include <algorithm>
#include <cmath>

#include "cajal/models/small/nets.h"

namespace cajal {
namespace {
using torch::Tensor;

/// Halves a picture that has something to halve.
Tensor halved(const Tensor& x) { return x.size(2) < 2 ? x : torch::max_pool2d(x, 2); }

template <class Step>
Step in_turn(std::vector<Step> steps) {
  return [steps = std::move(steps)](const Tensor& x) {
    auto y = x;
    for (const auto& step : steps) y = step(y);
    return y;
  };
}

}  // namespace

BenchmarkNetImpl::BenchmarkNetImpl(const BenchmarkNetOptions& o) : options(o) {
  require(o.colours > 0 && o.classes > 1 && o.width > 0,
          "benchmark net: colours and width must be positive, classes 2 or more, got {}, {}, {}",
          o.colours, o.width, o.classes);
  int64_t out = 0;
  switch (o.kind) {
    case BenchmarkNetKind::vgg16:
      out = vgg16();
      break;
    case BenchmarkNetKind::mobilenet_v1:
      out = mobilenet_v1();
      break;
    case BenchmarkNetKind::resnet18:
      out = residual_net({2, 2, 2, 2}, false, false);
      break;
    case BenchmarkNetKind::resnet50:
      out = residual_net({3, 4, 6, 3}, true, false);
      break;
    case BenchmarkNetKind::senet18:
      out = residual_net({2, 2, 2, 2}, false, true);
      break;
    case BenchmarkNetKind::googlenet:
      out = googlenet();
      break;
    case BenchmarkNetKind::densenet121:
      out = densenet121();
      break;
  }
  const auto last = register_module("last", torch::nn::Linear(out, o.classes));
  last_ = [last](const Tensor& x) mutable { return last->forward(x.mean({2, 3})); };
}

Tensor BenchmarkNetImpl::forward(const Tensor& x) {
  require(x.dim() == 4 && x.size(1) == options.colours && x.size(2) >= 16 && x.size(3) >= 16,
          "benchmark net: pictures {}, expected [batch, {}, 16 or more, 16 or more]",
          shape_text(x.sizes()), options.colours);
  auto y = x;
  for (const auto& step : steps_) y = step(y);
  return last_(y);
}

std::string BenchmarkNetImpl::next_name(const char* kind) {
  return kind + std::to_string(named_++);
}

int64_t BenchmarkNetImpl::wide(int64_t full) const {
  return std::max<int64_t>(1, std::llround(static_cast<double>(full) * options.width));
}

BenchmarkNetImpl::Step BenchmarkNetImpl::convolution(const Convolution& c) {
  const auto module = register_module(
      next_name("conv"), torch::nn::Conv2d(torch::nn::Conv2dOptions(c.in, c.out, c.kernel)
                                               .stride(c.stride)
                                               .padding(c.kernel / 2)
                                               .groups(c.groups)
                                               .bias(false)));
  return [module](const Tensor& x) mutable { return module->forward(x); };
}

BenchmarkNetImpl::Step BenchmarkNetImpl::norm(int64_t channels) {
  const auto module = register_module(next_name("norm"), torch::nn::BatchNorm2d(channels));
  return [module](const Tensor& x) mutable { return module->forward(x); };
}

BenchmarkNetImpl::Step BenchmarkNetImpl::law(int64_t channels) {
  return make_response(*this, next_name("law"), options.activation, channels);
}

BenchmarkNetImpl::Step BenchmarkNetImpl::conv_norm(const Convolution& c) {
  auto first = convolution(c);
  return in_turn<Step>({first, norm(c.out)});
}

BenchmarkNetImpl::Step BenchmarkNetImpl::conv_norm_law(const Convolution& c) {
  auto first = conv_norm(c);
  return in_turn<Step>({first, law(c.out)});
}

BenchmarkNetImpl::Step BenchmarkNetImpl::squeeze(int64_t channels) {
  const auto inner = std::max<int64_t>(1, channels / 16);
  const auto down = register_module(next_name("squeeze"), torch::nn::Linear(channels, inner));
  const auto respond = make_response(*this, next_name("law"), options.activation, inner);
  const auto up = register_module(next_name("excite"), torch::nn::Linear(inner, channels));
  return [=](const Tensor& x) mutable {
    const auto gate = torch::sigmoid(up->forward(respond(down->forward(x.mean({2, 3})))));
    return x * gate.unsqueeze(2).unsqueeze(3);
  };
}

BenchmarkNetImpl::Step BenchmarkNetImpl::residual(int64_t in, int64_t inner, int64_t out,
                                                  int64_t stride, bool bottleneck, bool squeezed) {
  std::vector<Step> body;
  if (bottleneck) {
    body.push_back(conv_norm_law({.in = in, .out = inner, .kernel = 1}));
    body.push_back(conv_norm_law({.in = inner, .out = inner, .stride = stride}));
    body.push_back(conv_norm({.in = inner, .out = out, .kernel = 1}));
  } else {
    body.push_back(conv_norm_law({.in = in, .out = out, .stride = stride}));
    body.push_back(conv_norm({.in = out, .out = out}));
  }
  if (squeezed) body.push_back(squeeze(out));
  Step shortcut = [](const Tensor& x) { return x; };
  if (stride != 1 || in != out)
    shortcut = conv_norm({.in = in, .out = out, .kernel = 1, .stride = stride});
  return [way = in_turn(body), shortcut, last = law(out)](const Tensor& x) {
    return last(way(x) + shortcut(x));
  };
}

int64_t BenchmarkNetImpl::vgg16() {
  int64_t in = options.colours;
  for (const int64_t full :
       {64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0}) {
    if (full == 0) {
      steps_.push_back(halved);
      continue;
    }
    steps_.push_back(conv_norm_law({.in = in, .out = wide(full)}));
    in = wide(full);
  }
  return in;
}

int64_t BenchmarkNetImpl::mobilenet_v1() {
  int64_t in = wide(32);
  steps_.push_back(conv_norm_law({.in = options.colours, .out = in}));
  struct Row {
    int64_t full, stride;
  };
  for (const auto& [full, stride] : {Row{64, 1},
                                     {128, 2},
                                     {128, 1},
                                     {256, 2},
                                     {256, 1},
                                     {512, 2},
                                     {512, 1},
                                     {512, 1},
                                     {512, 1},
                                     {512, 1},
                                     {512, 1},
                                     {1024, 2},
                                     {1024, 1}}) {
    steps_.push_back(conv_norm_law({.in = in, .out = in, .stride = stride, .groups = in}));
    steps_.push_back(conv_norm_law({.in = in, .out = wide(full), .kernel = 1}));
    in = wide(full);
  }
  return in;
}

int64_t BenchmarkNetImpl::residual_net(const std::vector<int64_t>& blocks, bool bottleneck,
                                       bool squeezed) {
  int64_t in = wide(64);
  steps_.push_back(conv_norm_law({.in = options.colours, .out = in}));
  for (size_t stage = 0; stage < blocks.size(); ++stage)
    for (int64_t i = 0; i < blocks[stage]; ++i) {
      const int64_t inner = wide(64 << stage), out = bottleneck ? 4 * inner : inner;
      const int64_t stride = stage > 0 && i == 0 ? 2 : 1;
      steps_.push_back(residual(in, inner, out, stride, bottleneck, squeezed));
      in = out;
    }
  return in;
}

/// widths: 1 x 1; before and of 3 x 3; before and of two 3 x 3; after the pool.
BenchmarkNetImpl::Step BenchmarkNetImpl::inception(int64_t in, const std::vector<int64_t>& w) {
  const auto point = [&](int64_t out) {
    return conv_norm_law({.in = in, .out = out, .kernel = 1});
  };
  const auto one = point(w[0]), before = point(w[1]);
  const auto three = conv_norm_law({.in = w[1], .out = w[2]});
  const auto narrow = point(w[3]);
  const auto five = conv_norm_law({.in = w[3], .out = w[4]});
  const auto more = conv_norm_law({.in = w[4], .out = w[4]}), pooled = point(w[5]);
  return [=](const Tensor& x) {
    return torch::cat(
        {one(x), three(before(x)), more(five(narrow(x))), pooled(torch::max_pool2d(x, 3, 1, 1))},
        1);
  };
}

int64_t BenchmarkNetImpl::googlenet() {
  int64_t in = wide(192);
  steps_.push_back(conv_norm_law({.in = options.colours, .out = in}));
  const std::vector<std::vector<int64_t>> rows = {
      {64, 96, 128, 16, 32, 32},     {128, 128, 192, 32, 96, 64},   {},
      {192, 96, 208, 16, 48, 64},    {160, 112, 224, 24, 64, 64},   {128, 128, 256, 24, 64, 64},
      {112, 144, 288, 32, 64, 64},   {256, 160, 320, 32, 128, 128}, {},
      {256, 160, 320, 32, 128, 128}, {384, 192, 384, 48, 128, 128}};
  for (const auto& row : rows) {
    if (row.empty()) {
      steps_.push_back([](const Tensor& x) { return torch::max_pool2d(x, 3, 2, 1); });
      continue;
    }
    std::vector<int64_t> widths;
    for (const int64_t full : row) widths.push_back(wide(full));
    steps_.push_back(inception(in, widths));
    in = widths[0] + widths[2] + widths[4] + widths[5];
  }
  return in;
}

int64_t BenchmarkNetImpl::densenet121() {
  const int64_t growth = wide(32);
  int64_t in = 2 * growth;
  steps_.push_back(convolution({.in = options.colours, .out = in}));
  const int64_t blocks[] = {6, 12, 24, 16};
  for (size_t b = 0; b < std::size(blocks); ++b) {
    for (int64_t i = 0; i < blocks[b]; ++i) {
      std::vector<Step> way{norm(in), law(in)};
      way.push_back(conv_norm_law({.in = in, .out = 4 * growth, .kernel = 1}));
      way.push_back(convolution({.in = 4 * growth, .out = growth}));
      steps_.push_back([own = in_turn(way)](const Tensor& x) {
        return torch::cat({own(x), x}, 1);
      });
      in += growth;
    }
    steps_.push_back(norm(in)), steps_.push_back(law(in));
    if (b + 1 == std::size(blocks)) break;
    steps_.push_back(convolution({.in = in, .out = in / 2, .kernel = 1}));
    steps_.push_back([](const Tensor& x) { return torch::avg_pool2d(x, 2); });
    in /= 2;
  }
  return in;
}

}  // namespace cajal
