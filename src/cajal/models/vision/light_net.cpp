#include "cajal/models/vision/light_net.h"

#include "cajal/core/error.h"
#include "cajal/layers/vision/depthwise.h"

namespace cajal::vision {
namespace {
using torch::Tensor;

Tensor normed(const Tensor& x, torch::IntArrayRef over) {
  const auto centred = x - x.mean(over, true);
  return centred / (centred.square().mean(over, true) + 1e-6).sqrt();
}

PrecorticalOptions module_options(LightFront front, int64_t colours) {
  PrecorticalOptions options{.channels = colours};
  if (front == LightFront::zero_sum) options.front = FrontEnd::zero_sum;
  if (front == LightFront::fixed) options.front = FrontEnd::fixed;
  if (front == LightFront::learned_random) options.start = KernelStart::random;
  return options;
}

}  // namespace

LightNet light_net(LightFront front, const Tensor& x, std::optional<LeNet> given) {
  require(x.dim() == 4 && x.size(2) == x.size(3),
          "light net: pictures {}, expected [pictures, colours, size, size]",
          shape_text(x.sizes()));
  require(front != LightFront::learned_late || given.has_value(),
          "light net: '{}' needs a trained LeNet", to_name(front));
  const int64_t colours = x.size(1);
  LeNet back = given ? *given : LeNet(LeNetOptions{.colours = colours, .size = x.size(2)});
  LightNet net;
  if (front != LightFront::learned_late) net.parameters = back->parameters();
  const auto before = [&](std::function<Tensor(const Tensor&)> own,
                          const std::vector<Tensor>& weights) {
    net.forward = [=](const Tensor& at) mutable { return back->forward(own(at)); };
    for (const auto& weight : weights) net.extra += weight.numel();
    net.parameters.insert(net.parameters.end(), weights.begin(), weights.end());
  };
  switch (front) {
    case LightFront::learned:
    case LightFront::learned_random:
    case LightFront::learned_late:
    case LightFront::zero_sum:
    case LightFront::fixed: {
      net.front = Precortical(module_options(front, colours));
      before([module = net.front](const Tensor& at) { return module->forward(at); },
             net.front->parameters());
      break;
    }
    case LightFront::plain_conv: {
      std::vector<Tensor> weights;
      for (int i = 0; i < 2; ++i) {  // libtorch's start of a convolution
        weights.push_back(torch::empty({colours, 7, 7}).uniform_(-1.0 / 7, 1.0 / 7));
        weights.push_back(torch::empty({colours, 1, 1}).uniform_(-1.0 / 7, 1.0 / 7));
      }
      for (auto& weight : weights) weight.set_requires_grad(true);
      before(
          [=](const Tensor& at) {
            auto y = at;
            for (size_t i = 0; i < 4; i += 2)
              y = torch::relu(depthwise_convolution(pad(y, 3, Padding::zeros), weights[i]) +
                              weights[i + 1]);
            return y;
          },
          weights);
      break;
    }
    case LightFront::standardise:
      before([](const Tensor& at) { return normed(at, {1, 2, 3}); }, {});
      break;
    case LightFront::instance_norm:
      before([](const Tensor& at) { return normed(at, {2, 3}); }, {});
      break;
    case LightFront::batch_norm:
      before([mean = x.mean(),
              deviation = x.std()](const Tensor& at) { return (at - mean) / deviation; },
             {});
      break;
    case LightFront::none:
    case LightFront::augment:
      net.augment = front == LightFront::augment;
      before([](const Tensor& at) { return at; }, {});
      break;
  }
  return net;
}

Tensor augmented_light(const Tensor& x) {
  const auto a = torch::empty({x.size(0), 1, 1, 1}).uniform_(0.3, 1.7);
  const auto b = torch::empty({x.size(0), 1, 1, 1}).uniform_(-0.4, 0.4);
  const auto mean = x.mean({1, 2, 3}, true);
  return a * (x - mean) + mean + b;
}

}  // namespace cajal::vision
